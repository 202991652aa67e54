// The hall: where seats are on the map, and which one is at a place.

export const ROWS = 8;
export const SEATS = 12;
export const WIDTH = 480;
export const HEIGHT = 340;

const LEFT = 36;
const TOP = 64;
const STEP = 34;
const SIZE = 26;

export const name = (seat) =>
  `${String.fromCharCode(65 + Math.trunc(seat / SEATS))}${(seat % SEATS) + 1}`;

export const place = (seat) => ({
  x: LEFT + (seat % SEATS) * STEP,
  y: TOP + Math.trunc(seat / SEATS) * STEP,
  size: SIZE,
});

// The seat at a place on the map; undefined between seats.
export const at = (x, y) => {
  const column = Math.floor((x - LEFT) / STEP);
  const row = Math.floor((y - TOP) / STEP);
  if (column < 0 || column >= SEATS || row < 0 || row >= ROWS) return undefined;
  const inside = x - LEFT - column * STEP <= SIZE && y - TOP - row * STEP <= SIZE;
  return inside ? row * SEATS + column : undefined;
};
