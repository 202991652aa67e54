// Cinema: seats on a map of the hall.
//
// Which seats are taken only the cinema's node knows: it is the one that gives seats away, so
// that no two people get the same. Until it has answered, the map says that it doesn't know.

import { button, call, canvas, draw, page, row, storage, text } from "teahouse";
import { HEIGHT, ROWS, SEATS, WIDTH, at, name, place } from "./hall.js";

const MOST = 6;
let chosen = [];
// Seats that the cinema gave away; null while it has not said.
let taken = null;
let booked = [];
let words = "";

const WHY = {
  "no-grant": "You have not allowed asking the cinema.",
  "not-here": "Asking the cinema is not available yet.",
  offline: "The cinema can't be reached just now.",
};
const why = (answer) => WHY[answer.reason] ?? "That did not work. Nothing was booked.";

const keep = () => storage.set("chosen", chosen);

const ask = () =>
  call("seats", {}, (answer) => {
    if (answer.ok) taken = answer.json.taken;
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
    const said = answer.json;
    taken = said.taken;
    if (said.booked) {
      booked = chosen;
      chosen = [];
      words = "They are yours";
      keep();
    } else {
      chosen = chosen.filter((seat) => !taken.includes(seat));
      words = "Somebody was faster: choose others";
    }
  });
};

const colour = (seat) => {
  if (booked.includes(seat)) return "good";
  if (chosen.includes(seat)) return "accent";
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
    words !== "" && text(words, { key: "words", colour: "warning" }),
  );
}
