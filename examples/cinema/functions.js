// Cinema, at the cinema: what runs at the cinema's own node (`teahouse program serve cinema`).
//
// It runs one call after another and is the only one that writes, so it can simply look whether
// a seat is free. A seat is held while its offer runs, sold when that is paid, and free again
// when it expires.

import { serve } from "teahouse";
import { ROWS, SEATS, name } from "./hall.js";

const PRICE = 900;
// Seats that one person can hold or buy.
const MOST = 6;
const MINUTES = 10;

// { seat: { by, of, sold } }: whose, by which offer, and whether it is paid.
const hall = (books) => books.get("hall") ?? {};
const taken = (seats) => Object.keys(seats).map(Number);
const mine = (seats, caller) =>
  taken(seats).filter((seat) => seats[seat].by === caller && seats[seat].sold);

export const update = serve(
  {
    seats({ caller }, books) {
      const seats = hall(books);
      return { taken: taken(seats), mine: mine(seats, caller) };
    },

    book({ caller, id, json }, books) {
      const seats = hall(books);
      const wanted = [...new Set(json.seats)];
      const there = (seat) => Number.isInteger(seat) && seat >= 0 && seat < ROWS * SEATS;
      if (wanted.length === 0 || !wanted.every(there)) throw new Error("there is no such seat");
      const before = taken(seats).filter((seat) => seats[seat].by === caller).length;
      if (before + wanted.length > MOST || wanted.some((seat) => seats[seat])) {
        return { held: false, taken: taken(seats), mine: mine(seats, caller) };
      }
      for (const seat of wanted) seats[seat] = { by: caller, of: id, sold: false };
      books.set("hall", seats);
      books.offer({
        reference: id,
        title: `Tonight: ${wanted.map(name).join(", ")}`,
        lines: wanted.map((seat) => ({ title: `Seat ${name(seat)}`, price: PRICE })),
        seconds: MINUTES * 60,
      });
      return { held: true, taken: taken(seats), mine: mine(seats, caller) };
    },
  },
  {
    paid({ reference }, books) {
      const seats = hall(books);
      for (const seat of taken(seats)) if (seats[seat].of === reference) seats[seat].sold = true;
      books.set("hall", seats);
    },
    expired({ reference }, books) {
      const seats = hall(books);
      for (const seat of taken(seats)) if (seats[seat].of === reference) delete seats[seat];
      books.set("hall", seats);
    },
    // Whoever got all of it back has the seats no more.
    refunded({ reference, refunded }, books) {
      const seats = hall(books);
      const bought = taken(seats).filter((seat) => seats[seat].of === reference);
      if (refunded < bought.length * PRICE) return;
      for (const seat of bought) delete seats[seat];
      books.set("hall", seats);
    },
  },
);
