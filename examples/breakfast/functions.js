// Breakfast, at the shop: what runs at the shop's own node (`teahouse program serve breakfast`).
//
// Each order is one thing that is kept, under the name by which its offer is known. What a
// function changes, the offer it makes and what it gives back become true together.

import { serve } from "teahouse";
import { MENU } from "./menu.js";

const MOST = 20;
const key = (id) => `order ${id}`;

// An order of who asks; nobody is told of another's.
const own = ({ caller, json }, books) => {
  const order = books.get(key(json.id));
  if (order?.caller !== caller) throw new Error("you have no such order");
  return order;
};
const shown = ({ id, state }) => ({ id, state });

export const update = serve(
  {
    order({ caller, json }, books) {
      const counts = MENU.map((item) => ({ ...item, count: Math.trunc(json.basket?.[item.id] ?? 0) }));
      const lines = counts.filter(({ count }) => count > 0 && count <= MOST);
      if (lines.length === 0) throw new Error("an order has something in it");
      const id = (books.get("last") ?? 0) + 1;
      const order = { id, caller, state: "offered" };
      books.set("last", id);
      books.set(key(id), order);
      books.offer({
        reference: key(id),
        title: `Breakfast, order ${id}`,
        lines: lines.map(({ name, count, price }) => ({ title: name, count, price })),
      });
      return shown(order);
    },

    status: (call, books) => shown(own(call, books)),

    // Given back until it is being cooked; here, nothing is cooked at once.
    refund(call, books) {
      const order = own(call, books);
      if (order.state !== "paid") return shown(order);
      books.refund(key(order.id), { memo: "You changed your mind" });
      const after = { ...order, state: "given back" };
      books.set(key(order.id), after);
      return shown(after);
    },
  },
  {
    paid: ({ reference }, books) => books.set(reference, { ...books.get(reference), state: "paid" }),
    expired: ({ reference }, books) =>
      books.set(reference, { ...books.get(reference), state: "not paid in time" }),
    refunded: ({ reference }, books) =>
      books.set(reference, { ...books.get(reference), state: "given back" }),
  },
);
