// Breakfast: a menu, a basket that is still there tomorrow, and an order.
//
// The shop's own node answers `order`, `status` and `refund`, and signs what an order costs;
// where it can't be asked, the program says so and keeps the basket.

import {
  button, call, card, divider, notice, page, payButton, row, stepper, storage, text, title,
} from "teahouse";
import { MENU, money, total } from "./menu.js";

let basket = {};
// What the shop said of the order: { id, state }, and its signed offer, which the pay button
// shows.
let order = null;
let offer = null;
let words = "";

const WHY = {
  "no-grant": "You have not allowed that. Nothing was sent.",
  "not-here": "The shop takes no orders here just now.",
  "too-large": "That is too much for one order.",
  offline: "The shop did not answer in time. Ask again before you order anew.",
  failed: "That did not work. Nothing was ordered.",
};

const why = (answer) => WHY[answer.reason] ?? WHY.failed;

const keep = () =>
  storage.set("basket", basket, (answer) => {
    if (!answer.ok) words = "Your basket is there only while this is open.";
  });

const choose = (id, count) => {
  basket = { ...basket, [id]: count };
  words = "";
  keep();
};

const send = () => {
  words = "Asking the shop …";
  call("order", { basket }, (answer) => {
    if (!answer.ok) return (words = why(answer));
    order = answer.json;
    offer = answer.offer;
    words = "";
    storage.set("order", order.id);
  });
};

const paid = (event) => {
  const said = {
    paid: "Paid. The kitchen has your order.",
    refused: "It was not paid.",
    unknown: "Not known yet whether it was paid. Ask again in a moment: nothing is paid twice.",
    cancelled: "Not paid.",
  };
  words = said[event.outcome];
  if (event.outcome === "paid") {
    basket = {};
    keep();
  }
  ask();
};

const ask = (id = order.id) =>
  call("status", { id }, (answer) => {
    if (answer.ok) order = answer.json;
    else words = why(answer);
  });

const refund = () =>
  call("refund", { id: order.id }, (answer) => {
    if (!answer.ok) return (words = why(answer));
    order = answer.json;
    notice("The shop gives your money back");
  });

const dish = (item) =>
  card(
    { key: item.id },
    row(text(item.name, { style: "strong" }), text(money(item.price), { colour: "muted" })),
    text(item.about, { style: "caption", colour: "muted" }),
    stepper(`${item.name}: how many`, basket[item.id] ?? 0, (e) => choose(item.id, e.value), {
      key: `${item.id} count`,
      max: 20,
    }),
  );

const ordered = () =>
  card(
    { key: "order" },
    title(`Order ${order.id}`),
    text(`The shop says: ${order.state}`),
    order.state === "offered" && offer && payButton(offer, paid, { key: "pay" }),
    row(
      button("Ask again", () => ask(), { key: "again" }),
      order.state === "paid" && button("Give it back", refund, { key: "refund" }),
    ),
  );

export function update(events) {
  for (const event of events) {
    if (event.type !== "start") continue;
    storage.get("basket", (answer) => {
      if (answer.ok) basket = answer.json;
    });
    storage.get("order", (answer) => {
      if (answer.ok) ask(answer.json);
    });
  }
  const sum = total(basket);
  return page(
    "Breakfast",
    title("What would you like?"),
    MENU.map(dish),
    divider(),
    text(sum > 0 ? `Together ${money(sum)}` : "Nothing chosen yet", { style: "strong" }),
    button("Order", send, { key: "send", style: "primary", enabled: sum > 0 }),
    words !== "" && text(words, { key: "words", colour: "warning" }),
    order && ordered(),
  );
}
