// What the engine runs first: it joins a program with the library.
import { run } from "teahouse";
import * as program from "program:main";

if (typeof program.update !== "function") {
  throw "the program exports no function named update";
}

export const ui = { update: (events) => run(program.update, events) };
