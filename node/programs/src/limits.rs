//! Every bound of a Mini Program, in one place.
//!
//! Those of a view stand in `program.wit` too, where authors read them. The host checks
//! them again on what the child sends, because an escaped program could *be* the child.

use core::time::Duration;

/// Nodes of a view: some hundred screens full.
pub const NODES: usize = 4096;
/// Levels of a view, the page being the first: drawing recurses.
pub const DEPTH: usize = 32;
/// Effects of a view.
pub const EFFECTS: usize = 32;
/// Drawing commands of a view, all canvases together.
pub const DRAW_COMMANDS: usize = 4096;
/// Corners of a polygon.
pub const POINTS: usize = 256;
/// A view in all, in bytes: its strings and bytes, and 16 for each node, command and
/// effect.
pub const VIEW_BYTES: usize = 1 << 20;
/// Coordinates on a canvas, either way from 0.
pub const COORDINATE: f32 = 65_536.0;
/// Width and height of a picture or canvas.
pub const SIZE: f32 = 4096.0;

/// A node's key, in bytes.
pub const NODE_KEY: usize = 64;
/// A page's title, in bytes: it stands in a title bar.
pub const TITLE: usize = 64;
/// A label, in bytes.
pub const LABEL: usize = 256;
/// An action, in bytes.
pub const ACTION: usize = 128;
/// A text or a field's value, in bytes.
pub const TEXT: usize = 8192;
/// A field's length, in characters.
pub const FIELD_CHARS: u32 = 4096;
/// A merchant's offer, in bytes.
pub const ORDER: usize = 16 << 10;
/// A key of storage or shared state, in bytes.
pub const STATE_KEY: usize = 128;
/// A value of storage or shared state and a call's payload or answer, in bytes.
pub const VALUE: usize = 64 << 10;
/// Keys in one answer.
pub const KEYS: usize = 1024;
/// The name of a cloud function, in bytes.
pub const FUNCTION: usize = 64;
/// What a link or card carries for the program, in bytes.
pub const LAUNCH: usize = 1024;
/// What a program or the child says of an error, in bytes.
pub const ERROR_TEXT: usize = 300;

/// Events of one update.
pub const EVENTS: usize = 64;
/// Events of one update in all, in bytes.
pub const EVENT_BYTES: usize = 1 << 20;
/// A program's code in all, in bytes: it fits a frame, and compiles in seconds.
pub const CODE_BYTES: usize = 3 << 20;
/// JavaScript files of one program.
pub const MODULES: usize = 64;
/// A frame between host and child, in bytes.
pub const FRAME_BYTES: usize = 4 << 20;

/// Programs that are open at once, in one child.
pub const PROGRAMS: usize = 32;
/// A program's linear memory, in bytes.
pub const MEMORY: usize = 64 << 20;
/// Processor time of the first update, JavaScript's start included.
pub const FIRST_UPDATE: Duration = Duration::from_millis(500);
/// Processor time of another update.
pub const UPDATE: Duration = Duration::from_millis(100);
/// How often running programs are looked at.
pub const TICK: Duration = Duration::from_millis(5);
/// How long the host waits for an update, by the clock: a busy machine gives a program its
/// processor time late, while a child that hangs never answers.
pub const UPDATE_WAIT: Duration = Duration::from_secs(10);
/// How long the host waits for a program to load, by the clock: the first one waits for
/// the JavaScript engine to be compiled, and a large component takes seconds.
pub const OPEN_WAIT: Duration = Duration::from_mins(1);
