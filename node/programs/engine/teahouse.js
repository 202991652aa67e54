// The module that JavaScript programs import as "teahouse": widgets, effects, and `run`,
// by which the host calls the program; `serve` for its developer's node. README.md beside this folder is its manual.

const string = (value) => String(value ?? "").toWellFormed();
const number = (value) => Number(value) || 0;
const integer = (value) => Math.trunc(number(value));
const fail = (text) => {
  throw new Error(text);
};

// ---- Widgets -------------------------------------------------------------------------

class Widget {
  constructor(tag, options, make, children = []) {
    this.tag = tag;
    this.key = options?.key;
    // Called with `name`, which turns an action or a function into an action's name.
    this.make = make;
    this.children = children;
  }
}

const isOptions = (value) =>
  value !== null && typeof value === "object" && !(value instanceof Widget) && !Array.isArray(value);

// Containers take an options object first, or none: column({ key: "a" }, one, two).
const container = (tag) => (...children) => {
  const options = isOptions(children[0]) ? children.shift() : {};
  return new Widget(tag, options, undefined, children);
};

export const column = container("column");
export const row = container("row");
export const card = container("card");
export const list = container("virtual-list");

export const page = (title, ...children) =>
  new Widget("page", { key: "page" }, () => string(title), children);

export const text = (content, { key, style = "body", colour = "normal" } = {}) =>
  new Widget("text", { key }, () => ({ content: string(content), style, colour }));

export const title = (content, options) => text(content, { style: "title", ...options });

export const image = (source, { key, width = 96, height = 96, label = "" } = {}) =>
  new Widget("image", { key }, () => ({
    source: string(source),
    width: number(width),
    height: number(height),
    label: string(label),
  }));

export const button = (label, action, { key, style = "secondary", enabled = true } = {}) =>
  new Widget("button", { key }, (name) => ({
    label: string(label),
    action: name(action),
    style,
    enabled: Boolean(enabled),
  }));

export const textField = (label, value, action, options = {}) => {
  const { key, multiline = false, maxLength = 256 } = options;
  return new Widget("text-field", { key }, (name) => ({
    label: string(label),
    value: string(value),
    action: name(action),
    multiline: Boolean(multiline),
    maxLength: integer(maxLength),
  }));
};

export const stepper = (label, value, action, { key, min = 0, max = 99 } = {}) =>
  new Widget("stepper", { key }, (name) => ({
    label: string(label),
    value: integer(value),
    min: integer(min),
    max: integer(max),
    action: name(action),
  }));

export const divider = ({ key } = {}) => new Widget("divider", { key });

export const canvas = (label, width, height, commands, { key, action } = {}) =>
  new Widget("canvas", { key }, (name) => ({
    label: string(label),
    width: number(width),
    height: number(height),
    commands,
    action: action === undefined ? null : name(action),
  }));

export const payButton = (order, action, { key } = {}) =>
  new Widget("pay-button", { key }, (name) => ({ order: bytes(order), action: name(action) }));

// A colour: the name of a role ("accent"), or 0xRRGGBBAA.
const paint = (colour = "normal") => {
  if (typeof colour !== "number") return { tag: "role", val: string(colour) };
  const part = (shift) => (colour >>> shift) & 255;
  return { tag: "rgba", val: { red: part(24), green: part(16), blue: part(8), alpha: part(0) } };
};

// Things to draw on a canvas. Without `stroke` a shape is filled.
export const draw = {
  rect: (x, y, width, height, { colour, stroke = 0, radius = 0 } = {}) => ({
    tag: "rect",
    val: {
      x: number(x),
      y: number(y),
      width: number(width),
      height: number(height),
      radius: number(radius),
      stroke: number(stroke),
      paint: paint(colour),
    },
  }),
  circle: (x, y, radius, { colour, stroke = 0 } = {}) => ({
    tag: "circle",
    val: { x: number(x), y: number(y), radius: number(radius), stroke: number(stroke), paint: paint(colour) },
  }),
  line: (x1, y1, x2, y2, { colour, width = 1 } = {}) => ({
    tag: "line",
    val: {
      start: { x: number(x1), y: number(y1) },
      end: { x: number(x2), y: number(y2) },
      width: number(width),
      paint: paint(colour),
    },
  }),
  polygon: (points, { colour, stroke = 0 } = {}) => ({
    tag: "polygon",
    val: {
      points: points.map(([x, y]) => ({ x: number(x), y: number(y) })),
      stroke: number(stroke),
      paint: paint(colour),
    },
  }),
  text: (x, y, content, { colour, size = 16, align = "left" } = {}) => ({
    tag: "text",
    val: { x: number(x), y: number(y), size: number(size), align, content: string(content), paint: paint(colour) },
  }),
};

// ---- Bytes ---------------------------------------------------------------------------

export const encode = (value) => {
  const plain = unescape(encodeURIComponent(string(value)));
  return Uint8Array.from(plain, (c) => c.charCodeAt(0));
};

export const decode = (value) => {
  let plain = "";
  for (let at = 0; at < value.length; at += 4096) {
    plain += String.fromCharCode(...value.slice(at, at + 4096));
  }
  return decodeURIComponent(escape(plain));
};

// Bytes as they are, a string as UTF-8, anything else as JSON.
const bytes = (value) => {
  if (value instanceof Uint8Array) return value;
  return encode(typeof value === "string" ? value : JSON.stringify(value ?? null));
};

// Two pieces in one: the length of the first (4 bytes, little endian), then both.
const halves = (both) => {
  const length = new DataView(both.buffer, both.byteOffset).getUint32(0, true);
  return [both.slice(4, 4 + length), both.slice(4 + length)];
};

// ---- Effects -------------------------------------------------------------------------

const MOST_EFFECTS = 32;
let nextId = 1;
// Asked for by this update, and those that no view could carry yet.
let queue = [];
const waiting = new Map();
// Effects that are calls: their answers may carry an offer.
const calls = new Set();

const ask = (request, then) => {
  if (queue.length >= 1024) fail("too many effects are waiting");
  const id = nextId++;
  queue.push({ id, request });
  if (typeof then === "function") waiting.set(id, then);
  return id;
};
const keyed = (tag) => (key, then) => ask({ tag, val: string(key) }, then);
const entry = (tag) => (key, value, then) =>
  ask({ tag, val: { key: string(key), value: bytes(value) } }, then);

export const login = (then) => ask({ tag: "login" }, then);
export const storage = {
  get: keyed("storage-get"),
  set: entry("storage-set"),
  remove: keyed("storage-remove"),
  list: keyed("storage-list"),
};
export const shared = { get: keyed("state-get"), set: entry("state-set"), list: keyed("state-list") };
export const call = (name, payload, then) => {
  const id = ask({ tag: "call", val: { function: string(name), payload: bytes(payload) } }, then);
  calls.add(id);
  return id;
};
export const share = (title, launch, then) =>
  ask({ tag: "share", val: { title: string(title), launch: string(launch) } }, then);
export const notice = (content, then) => ask({ tag: "notice", val: string(content) }, then);
export const close = () => ask({ tag: "close" });

// ---- Events --------------------------------------------------------------------------

// The answer to an effect: { ok, bytes, text, json, keys, offer, missing, reason }.
class Answer {
  constructor(id, { tag, val }) {
    this.type = "answer";
    this.id = id;
    this.ok = tag === "done" || tag === "value" || tag === "keys";
    this.missing = tag === "missing";
    this.reason = tag === "refused" ? val : undefined;
    this.bytes = undefined;
    if (tag === "value") this.bytes = val instanceof Uint8Array ? val : Uint8Array.from(val);
    this.keys = tag === "keys" ? val : undefined;
    this.offer = undefined;
    if (calls.delete(id) && this.bytes) {
      const [value, offer] = halves(this.bytes);
      this.bytes = value;
      if (offer.length > 0) this.offer = offer;
    }
  }
  get text() {
    return this.bytes && decode(this.bytes);
  }
  get json() {
    return this.bytes && JSON.parse(this.text);
  }
}

const plain = ({ tag, val }) => {
  if (tag === "answer") return new Answer(val.id, val.outcome);
  if (tag === "state-changed") return { type: tag, key: val };
  // The engine reads numbers above 2^31 as negative.
  if (tag === "start") val.seed >>>= 0;
  return { type: tag, ...val };
};

// Math.random from the host's seed: there is no other randomness. (mulberry32)
const seed = (state) => {
  Math.random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
};

// ---- Functions at the developer's node -----------------------------------------------

// What a function is given: who called, when, and what with.
class Given {
  constructor(job, payload) {
    Object.assign(this, job);
    this.bytes = payload;
  }
  get text() {
    return decode(this.bytes);
  }
  get json() {
    return JSON.parse(this.text);
  }
}

// What a file of functions exports as `update`. `functions` answer calls by their names;
// `told` has `paid`, `expired` and `refunded`, which hear what became of offers. Each run is
// the only one in a fresh instance. What it reads and is not here yet ends the run, which
// begins anew once it is: so a function reads as if all were here, and does nothing twice.
export const serve = (functions, told = {}) => {
  const known = new Map();
  const lists = new Map();
  let job;
  let reading = 0;
  let done = false;
  let shown = false;

  const attempt = () => {
    const writes = new Map();
    const refunds = [];
    const lacking = [];
    let offer;
    const miss = (tag, key) => {
      lacking.push([tag, key]);
      throw lacking;
    };
    const read = (key) => {
      if (writes.has(key)) return writes.get(key);
      if (!known.has(key)) miss("storage-get", key);
      return known.get(key);
    };
    const books = {
      bytes: (key) => read(string(key)),
      get: (key) => {
        const found = read(string(key));
        return found && JSON.parse(decode(found));
      },
      set: (key, value) => void writes.set(string(key), bytes(value)),
      remove: (key) => void writes.set(string(key), undefined),
      list: (prefix = "") => {
        if (!lists.has(prefix)) miss("storage-list", prefix);
        const keys = new Set(lists.get(prefix));
        for (const [key, value] of writes) {
          if (!key.startsWith(prefix)) continue;
          if (value === undefined) keys.delete(key);
          else keys.add(key);
        }
        return [...keys].sort();
      },
      offer: ({ reference = job.id, title, lines, seconds = 0 }) => {
        if (offer) fail("a call makes one offer at most");
        const line = ({ title, count = 1, price }) => [string(title), integer(count), integer(price)];
        offer = { reference: string(reference), title: string(title), lines: lines.map(line), seconds };
        return offer.reference;
      },
      refund: (reference, { amount = null, memo = "" } = {}) =>
        void refunds.push({ reference: string(reference), amount, memo: string(memo) }),
    };
    const [table, name] = job.told ? [told, job.told] : [functions, job.function];
    const run = Object.hasOwn(table, name) ? table[name] : undefined;
    if (typeof run !== "function" && !job.told) fail(`there is no function "${name}"`);
    seed(job.seed);
    let answer;
    try {
      answer = run?.(job, books);
    } catch (error) {
      if (lacking.length === 0) throw error;
    }
    if (lacking.length > 0) {
      for (const [tag, key] of lacking) {
        reading += 1;
        ask({ tag, val: key }, (found) => {
          reading -= 1;
          if (!found.ok && !found.missing) fail("what is kept can't be read");
          if (tag === "storage-get") known.set(key, found.bytes);
          else lists.set(key, found.keys);
        });
      }
      return;
    }
    done = true;
    for (const [key, value] of writes) {
      if (value === undefined) ask({ tag: "storage-remove", val: key });
      else ask({ tag: "storage-set", val: { key, value } });
    }
    const say = (word, what) =>
      ask({ tag: "call", val: { function: word, payload: bytes(what) } });
    for (const refund of refunds) say("refund", refund);
    if (offer) say("offer", offer);
    say("answer", answer);
  };

  return (events) => {
    for (const event of events) {
      // The run stands where the answer to no effect would.
      if (event.type !== "answer" || event.id !== 0) continue;
      const [head, payload] = halves(event.bytes);
      job = new Given(JSON.parse(decode(head)), payload);
    }
    if (job && reading === 0 && !done) attempt();
    if (shown) return undefined;
    shown = true;
    return page("functions");
  };
};

// ---- The host's call -----------------------------------------------------------------

let rev = 0;
// Functions that stand as actions in the last picture, by the name they were given.
let handlers = new Map();

// The nested widgets as the flat list that the host takes. A widget without a key is
// named by its place below the nearest one with a key, so keys stay the same from picture
// to picture.
const flatten = (root) => {
  const nodes = [];
  const named = new Map();
  const visit = (widget, parent, place) => {
    const key = widget.key === undefined ? place : string(widget.key);
    const name = (action) => {
      if (typeof action !== "function") return string(action);
      named.set(key, action);
      return "()";
    };
    const index = nodes.length;
    const kind = { tag: widget.tag };
    if (widget.make) kind.val = widget.make(name);
    nodes.push({ key, parent, kind });
    let at = 0;
    const each = (child) => {
      if (Array.isArray(child)) return child.forEach(each);
      const here = `${key === "page" ? "" : key}.${at++}`;
      // As in `condition && widget`: nothing, but it keeps its place.
      if (child === null || child === undefined || child === false) return;
      visit(child instanceof Widget ? child : text(child), index, here);
    };
    widget.children.forEach(each);
  };
  visit(root, null, "page");
  handlers = named;
  return nodes;
};

const words = (error) => {
  if (error instanceof Error) return `${error.name}: ${error.message}`.toWellFormed();
  return string(error);
};

// Called by the host with its events. Runs the functions that they are for, then
// `update`, and returns the host's view.
export const run = (update, events) => {
  try {
    const seen = events.map(plain);
    for (const event of seen) {
      if (event.type === "start") seed(event.seed);
      if (event.type === "answer") {
        const then = waiting.get(event.id);
        waiting.delete(event.id);
        then?.(event);
      } else if (event.action === "()") {
        handlers.get(event.key)?.(event);
      }
    }
    const root = update(seen);
    let nodes = [];
    if (root !== undefined && root !== null) {
      if (!(root instanceof Widget) || root.tag !== "page") fail("update must return a page");
      nodes = flatten(root);
      rev += 1;
    }
    return { rev, nodes, effects: queue.splice(0, MOST_EFFECTS) };
  } catch (error) {
    throw words(error);
  }
};
