//! Programs in the real child process. One binary, so that it links once.

mod bounds;
mod components;
mod escape;
mod hello;
mod supervision;
mod support;
