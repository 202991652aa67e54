//! What a program shows, what it asks for and what it is told, as plain data.
//!
//! The same types as `protocols/wit/program.wit`, which documents each field and its bound;
//! free of wasmtime, so that the window and the node can use them. Their postcard form
//! crosses the pipe between host and child, and nothing else: it may change freely.

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::limits;

/// What is to be seen, and what the program asks for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct View {
    /// Counts the pictures; higher than before where `nodes` is a new one.
    pub rev: u64,
    /// The picture: the page first, parents before children. Empty where it stays.
    #[serde(deserialize_with = "nodes")]
    pub nodes: Vec<Node>,
    /// What the program asks for, in order.
    #[serde(deserialize_with = "effects")]
    pub effects: Vec<Effect>,
}

/// One widget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique in the view; the same key in the next view is the same widget.
    pub key: String,
    /// The position in the view's nodes of what it stands in; none for the page.
    pub parent: Option<u32>,
    /// What it is.
    pub kind: Kind,
}

/// What the host draws. Sizes are points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// The whole program, with its title.
    Page(String),
    /// Children below each other.
    Column,
    /// Children beside each other, wrapping.
    Row,
    /// Children below each other on a raised surface.
    Card,
    /// Children below each other, laid out where in sight.
    VirtualList,
    /// Text as it is, without markup.
    Text(Text),
    /// A picture of the program's package.
    Image(Image),
    /// A button.
    Button(Button),
    /// A field to write in.
    TextField(TextField),
    /// A number with less and more.
    Stepper(Stepper),
    /// A line between things.
    Divider,
    /// A field to draw on.
    Canvas(Canvas),
    /// The host's own button to pay, which a program can't imitate.
    PayButton(PayButton),
}

impl Kind {
    /// Whether other nodes may stand in it.
    pub const fn holds_children(&self) -> bool {
        matches!(self, Self::Page(_) | Self::Column | Self::Row | Self::Card | Self::VirtualList)
    }
}

/// How text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextStyle {
    /// Running text.
    Body,
    /// A heading.
    Title,
    /// Small print.
    Caption,
    /// Running text that stands out.
    Strong,
}

/// A colour of the person's theme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Text.
    Normal,
    /// Text that steps back.
    Muted,
    /// The theme's own colour.
    Accent,
    /// Went well.
    Good,
    /// Look here.
    Warning,
    /// Went wrong, or can't be undone.
    Danger,
    /// A raised surface.
    Surface,
}

/// Text as it is, without markup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub content: String,
    /// How it looks.
    pub style: TextStyle,
    /// Its colour.
    pub colour: Role,
}

/// A picture of the program's package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// A file of the package: relative, without `.` and `..`.
    pub source: String,
    /// In points.
    pub width: f32,
    /// In points.
    pub height: f32,
    /// What it shows, for who can't see it.
    pub label: String,
}

/// How much a button stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ButtonStyle {
    /// What most people will want.
    Primary,
    /// The usual.
    Secondary,
    /// Text alone.
    Quiet,
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What stands on it.
    pub label: String,
    /// Comes back in [`Event::Tap`].
    pub action: String,
    /// How much it stands out.
    pub style: ButtonStyle,
    /// Whether it can be pressed.
    pub enabled: bool,
}

/// A field to write in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextField {
    /// What to write.
    pub label: String,
    /// Taken over where it differs from the last view's.
    pub value: String,
    /// Comes back in [`Event::Input`].
    pub action: String,
    /// Whether Enter makes a new line.
    pub multiline: bool,
    /// In characters.
    pub max_length: u32,
}

/// A number with less and more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stepper {
    /// What is counted.
    pub label: String,
    /// From `min` to `max`.
    pub value: i32,
    /// The least.
    pub min: i32,
    /// The most.
    pub max: i32,
    /// Comes back in [`Event::Step`].
    pub action: String,
}

/// A field to draw on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canvas {
    /// In its own units, scaled to the room there is.
    pub width: f32,
    /// In its own units.
    pub height: f32,
    /// What it shows, for who can't see it.
    pub label: String,
    /// Drawn in order.
    #[serde(deserialize_with = "commands")]
    pub commands: Vec<Draw>,
    /// Comes back in [`Event::Tap`]; none where taps mean nothing.
    pub action: Option<String>,
}

/// One thing drawn, in canvas units. A `stroke` of 0 fills; another is an outline's width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Draw {
    /// A rectangle, with rounded corners where `radius` is above 0.
    Rect {
        /// Left.
        x: f32,
        /// Top.
        y: f32,
        /// To the right.
        width: f32,
        /// Downwards.
        height: f32,
        /// Of the corners.
        radius: f32,
        /// 0 fills.
        stroke: f32,
        /// Its colour.
        paint: Paint,
    },
    /// A circle.
    Circle {
        /// Of the centre.
        x: f32,
        /// Of the centre.
        y: f32,
        /// From the centre.
        radius: f32,
        /// 0 fills.
        stroke: f32,
        /// Its colour.
        paint: Paint,
    },
    /// A straight line.
    Line {
        /// One end.
        start: Point,
        /// The other.
        end: Point,
        /// Its thickness.
        width: f32,
        /// Its colour.
        paint: Paint,
    },
    /// A closed shape.
    Polygon {
        /// Its corners.
        #[serde(deserialize_with = "points")]
        points: Vec<Point>,
        /// 0 fills.
        stroke: f32,
        /// Its colour.
        paint: Paint,
    },
    /// A line of text.
    Text {
        /// The side that `align` names.
        x: f32,
        /// The middle.
        y: f32,
        /// Its height.
        size: f32,
        /// Which side `x` is.
        align: Align,
        /// The text.
        content: String,
        /// Its colour.
        paint: Paint,
    },
}

/// A colour on a canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Paint {
    /// Of the person's theme.
    Role(Role),
    /// Red, green, blue and alpha.
    Rgba([u8; 4]),
}

/// A place on a canvas.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Downwards.
    pub y: f32,
}

/// A side of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Align {
    /// The left.
    Left,
    /// The middle.
    Centre,
    /// The right.
    Right,
}

/// The host's own button to pay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayButton {
    /// The merchant's signed offer, opaque here: who draws it checks and shows it.
    pub order: Vec<u8>,
    /// Comes back in [`Event::Paid`].
    pub action: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Once, first.
    Start(Start),
    /// A button, or a place on a canvas.
    Tap {
        /// The node's.
        key: String,
        /// The node's.
        action: String,
        /// Canvas units on a canvas, otherwise 0.
        x: f32,
        /// Canvas units on a canvas, otherwise 0.
        y: f32,
    },
    /// A field was written in.
    Input {
        /// The node's.
        key: String,
        /// The node's.
        action: String,
        /// All that stands in it.
        text: String,
    },
    /// A stepper was changed.
    Step {
        /// The node's.
        key: String,
        /// The node's.
        action: String,
        /// The new number.
        value: i32,
    },
    /// To an effect of an earlier view.
    Answer {
        /// The effect's.
        id: u32,
        /// How it went.
        outcome: Outcome,
    },
    /// What became of a tap on the pay button.
    Paid {
        /// The node's.
        key: String,
        /// The node's.
        action: String,
        /// How it went.
        outcome: Payment,
    },
    /// Another member changed this key of the chat's shared state.
    StateChanged(String),
}

/// What a program learns when it opens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Start {
    /// The language the person reads, as BCP 47.
    pub locale: String,
    /// Whether the theme is dark.
    pub dark_mode: bool,
    /// What the link or card that opened it carried.
    pub launch: String,
    /// Seconds since 1970.
    pub now: u64,
    /// For games; not for secrets.
    pub seed: u32,
}

/// What became of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payment {
    /// It was made.
    Paid,
    /// It was not made.
    Refused,
    /// Not known yet.
    Unknown,
    /// The person changed their mind.
    Cancelled,
}

/// Something a program asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The program's own number; comes back in [`Event::Answer`].
    pub id: u32,
    /// What it asks for.
    pub request: Request,
}

/// What a program can ask for. None of it happens without the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who the person is to this program alone: a public key of 32 B.
    Login,
    /// Reads the program's own storage.
    StorageGet(String),
    /// Writes it.
    StorageSet(Entry),
    /// Removes a key from it.
    StorageRemove(String),
    /// The keys that begin so.
    StorageList(String),
    /// Reads the chat's shared state.
    StateGet(String),
    /// Writes it.
    StateSet(Entry),
    /// The keys that begin so.
    StateList(String),
    /// A function at the developer's node.
    Call {
        /// Its name.
        function: String,
        /// What it is given.
        payload: Vec<u8>,
    },
    /// Offers the person a card to send.
    Share {
        /// What stands on it.
        title: String,
        /// Comes back in [`Start::launch`].
        launch: String,
    },
    /// A line shown in passing.
    Notice(String),
    /// The program is done.
    Close,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
}

/// How an effect went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Carried out.
    Done,
    /// What was asked for.
    Value(Vec<u8>),
    /// There is no such key.
    Missing,
    /// What was asked for, in order.
    Keys(Vec<String>),
    /// It didn't happen.
    Refused(Reason),
}

/// Why an effect didn't happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The person didn't allow it.
    NoGrant,
    /// There is no such thing where the program runs.
    NotHere,
    /// Beyond a bound, or the room is full.
    TooLarge,
    /// There is no connection.
    Offline,
    /// Something else.
    Failed,
}

fn nodes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Node>, D::Error> {
    at_most::<_, _, { limits::NODES }>(d)
}

fn effects<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Effect>, D::Error> {
    at_most::<_, _, { limits::EFFECTS }>(d)
}

fn commands<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Draw>, D::Error> {
    at_most::<_, _, { limits::DRAW_COMMANDS }>(d)
}

fn points<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Point>, D::Error> {
    at_most::<_, _, { limits::POINTS }>(d)
}

/// A list that is given up at the first item beyond `MAX`, so that a short frame of many
/// tiny items can't become a long list in memory.
fn at_most<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Visitor<T, const MAX: usize>(core::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> de::Visitor<'de> for Visitor<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            write!(f, "at most {MAX} items")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(MAX));
            while let Some(item) = seq.next_element()? {
                if items.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(Visitor::<T, MAX>(core::marker::PhantomData))
}
