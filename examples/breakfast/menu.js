// What there is. Prices are in the smallest unit of the shop's money.

export const MENU = [
  { id: "soymilk", name: "Soy milk", about: "warm, unsweetened", price: 300 },
  { id: "bun", name: "Steamed bun", about: "pork or mushroom", price: 250 },
  { id: "egg", name: "Tea egg", about: "marbled, a little salty", price: 200 },
  { id: "dough", name: "Fried dough stick", about: "crisp until nine o'clock", price: 350 },
];

export const money = (cents) => `${Math.trunc(cents / 100)}.${String(cents % 100).padStart(2, "0")}`;

export const total = (basket) =>
  MENU.reduce((sum, item) => sum + item.price * (basket[item.id] ?? 0), 0);
