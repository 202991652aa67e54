// Cinema: seats on a map of the hall.
//
// Which seats are taken only the cinema's node knows: it is the one that gives seats away, so
// that no two people get the same. Until it has answered, the map says that it doesn't know.

import { button, call, canvas, draw, page, payButton, row, storage, text } from "teahouse";
import { HEIGHT, ROWS, SEATS, WIDTH, at, name, place } from "./hall.js";

const MOST = 6;
let chosen = [];
// Seats that the cinema gave away; null while it has not said.
let taken = null;
// Seats that are paid, and those that are held until their offer is paid or expires.
let booked = [];
let held = null;
let words = "";

const WHY = {
  "no-grant": "You have not allowed asking the cinema.",
  "not-here": "The cinema sells no seats here just now.",
  offline: "The cinema did not answer in time. Ask again before you book.",
};
const why = (answer) => WHY[answer.reason] ?? "That did not work. Nothing was booked.";

const keep = () => storage.set("chosen", chosen);

const heard = (said) => {
  taken = said.taken;
  booked = said.mine;
};

const ask = () =>
  call("seats", {}, (answer) => {
    if (answer.ok) heard(answer.json);
    else words = why(answer);
  });

const tap = (event) => {
  const seat = at(event.x, event.y);
  if (seat === undefined || taken?.includes(seat) || booked.includes(seat)) return;
  words = "";
  if (chosen.includes(seat)) chosen = chosen.filter((other) => other !== seat);
  else if (chosen.length === MOST) words = `At most ${MOST} seats at once`;
  else chosen = [...chosen, seat].sort((a, b) => a - b);
  keep();
};

const book = () => {
  words = "Asking the cinema …";
  call("book", { seats: chosen }, (answer) => {
    if (!answer.ok) return (words = why(answer));
    heard(answer.json);
    if (answer.json.held) {
      held = { seats: chosen, offer: answer.offer };
      chosen = [];
      words = "Held for you for ten minutes";
      keep();
    } else {
      chosen = chosen.filter((seat) => !taken.includes(seat));
      words = "Somebody was faster, or it is more than one can have: choose others";
    }
  });
};

const paid = (event) => {
  const said = {
    paid: "They are yours",
    refused: "It was not paid.",
    unknown: "Not known yet whether it is paid: ask again in a moment. Nothing is paid twice.",
    cancelled: "Not paid. The seats are held for a while.",
  };
  words = said[event.outcome];
  if (event.outcome === "paid" || event.outcome === "refused") held = null;
  ask();
};

const colour = (seat) => {
  if (booked.includes(seat)) return "good";
  if (chosen.includes(seat) || held?.seats.includes(seat)) return "accent";
  return taken?.includes(seat) ? "danger" : "muted";
};

const map = () => {
  const commands = [
    draw.rect(60, 14, WIDTH - 120, 10, { colour: "normal", radius: 5 }),
    draw.text(WIDTH / 2, 40, "screen", { size: 14, align: "centre", colour: "muted" }),
  ];
  for (let seat = 0; seat < ROWS * SEATS; seat += 1) {
    const { x, y, size } = place(seat);
    const free = !(chosen.includes(seat) || booked.includes(seat) || taken?.includes(seat));
    commands.push(draw.rect(x, y, size, size, { colour: colour(seat), radius: 6, stroke: free ? 2 : 0 }));
  }
  for (let n = 0; n < ROWS; n += 1) {
    const { y, size } = place(n * SEATS);
    const letter = String.fromCharCode(65 + n);
    commands.push(draw.text(18, y + size / 2, letter, { size: 14, align: "centre", colour: "muted" }));
  }
  return commands;
};

export function update(events) {
  for (const event of events) {
    if (event.type !== "start") continue;
    storage.get("chosen", (answer) => {
      if (answer.ok) chosen = answer.json;
    });
    ask();
  }
  const list = chosen.map(name).join(", ");
  return page(
    "Cinema",
    text("The Tea Picker's Daughter, tonight at eight", { style: "title" }),
    canvas("Map of the hall: tap a seat", WIDTH, HEIGHT, map(), { key: "hall", action: tap }),
    text(taken === null ? "Which seats are free is not known yet" : `${ROWS * SEATS - taken.length} seats are free`),
    text(chosen.length > 0 ? `Chosen: ${list}` : "Tap the seats that you want", { style: "strong" }),
    row(
      button("Book", book, { key: "book", style: "primary", enabled: chosen.length > 0 }),
      button("Ask again", ask, { key: "ask" }),
    ),
    held && payButton(held.offer, paid, { key: "pay" }),
    words !== "" && text(words, { key: "words", colour: "warning" }),
  );
}
