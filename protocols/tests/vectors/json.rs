//! JSON whose fields keep the order given, with bytes as lower-case hexadecimal.

use data_encoding::HEXLOWER;
use serde::de::value::Error;
use serde::ser::{
    Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleVariant, Serializer,
};

/// A piece of JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    /// Kept apart from other numbers: an array of these is bytes.
    Byte(u8),
    Number(u64),
    Text(String),
    List(Vec<Node>),
    Fields(Vec<(String, Node)>),
}

/// An object with its fields in this order.
macro_rules! fields {
    ($($key:literal : $value:expr),* $(,)?) => {
        $crate::json::Node::Fields(vec![$(($key.to_owned(), $crate::json::Node::from($value))),*])
    };
}
pub(crate) use fields;

/// Bytes as text.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> Node {
    Node::Text(HEXLOWER.encode(bytes.as_ref()))
}

/// Any value of the protocol: structs by field names, enums as `{"Variant": …}`, ids and
/// other bytes as hexadecimal.
pub(crate) fn node<T: Serialize + ?Sized>(value: &T) -> Node {
    value.serialize(ToNode).expect("plain data")
}

impl From<&str> for Node {
    fn from(s: &str) -> Self {
        Self::Text(s.to_owned())
    }
}

impl From<String> for Node {
    fn from(s: String) -> Self {
        Self::Text(s)
    }
}

impl From<u64> for Node {
    fn from(n: u64) -> Self {
        Self::Number(n)
    }
}

impl From<bool> for Node {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<Vec<Node>> for Node {
    fn from(list: Vec<Node>) -> Self {
        Self::List(list)
    }
}

impl FromIterator<Node> for Node {
    fn from_iter<I: IntoIterator<Item = Node>>(items: I) -> Self {
        Self::List(items.into_iter().collect())
    }
}

impl FromIterator<(String, Node)> for Node {
    fn from_iter<I: IntoIterator<Item = (String, Node)>>(items: I) -> Self {
        Self::Fields(items.into_iter().collect())
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => s.serialize_unit(),
            Self::Bool(b) => s.serialize_bool(*b),
            Self::Byte(b) => s.serialize_u8(*b),
            Self::Number(n) => s.serialize_u64(*n),
            Self::Text(t) => s.serialize_str(t),
            Self::List(items) => s.collect_seq(items),
            Self::Fields(fields) => s.collect_map(fields.iter().map(|(k, v)| (k, v))),
        }
    }
}

struct ToNode;

/// What is being filled, and the variant it goes under.
#[derive(Default)]
pub(crate) struct Building {
    variant: Option<&'static str>,
    items: Vec<Node>,
    fields: Vec<(String, Node)>,
}

impl Building {
    fn list(self) -> Node {
        let list = Node::List(self.items);
        under(self.variant, list)
    }

    fn object(self) -> Node {
        under(self.variant, Node::Fields(self.fields))
    }
}

fn under(variant: Option<&'static str>, node: Node) -> Node {
    match variant {
        Some(name) => Node::Fields(vec![(name.to_owned(), node)]),
        None => node,
    }
}

fn variant(name: &'static str) -> Building {
    Building { variant: Some(name), ..Building::default() }
}

impl Serializer for ToNode {
    type Ok = Node;
    type Error = Error;
    type SerializeSeq = Building;
    type SerializeTuple = Building;
    type SerializeTupleStruct = Impossible<Node, Error>;
    type SerializeTupleVariant = Building;
    type SerializeMap = Building;
    type SerializeStruct = Building;
    type SerializeStructVariant = Building;

    fn serialize_bool(self, v: bool) -> Result<Node, Error> {
        Ok(Node::Bool(v))
    }
    fn serialize_i8(self, _: i8) -> Result<Node, Error> {
        unreachable!("no wire form holds signed numbers")
    }
    fn serialize_i16(self, _: i16) -> Result<Node, Error> {
        unreachable!("no wire form holds signed numbers")
    }
    fn serialize_i32(self, _: i32) -> Result<Node, Error> {
        unreachable!("no wire form holds signed numbers")
    }
    fn serialize_i64(self, _: i64) -> Result<Node, Error> {
        unreachable!("no wire form holds signed numbers")
    }
    fn serialize_u8(self, v: u8) -> Result<Node, Error> {
        Ok(Node::Byte(v))
    }
    fn serialize_u16(self, v: u16) -> Result<Node, Error> {
        Ok(Node::Number(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<Node, Error> {
        Ok(Node::Number(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<Node, Error> {
        Ok(Node::Number(v))
    }
    fn serialize_f32(self, _: f32) -> Result<Node, Error> {
        unreachable!("no wire form holds fractions")
    }
    fn serialize_f64(self, _: f64) -> Result<Node, Error> {
        unreachable!("no wire form holds fractions")
    }
    fn serialize_char(self, v: char) -> Result<Node, Error> {
        Ok(Node::Text(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Node, Error> {
        Ok(Node::Text(v.to_owned()))
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Node, Error> {
        Ok(hex(v))
    }
    fn serialize_none(self) -> Result<Node, Error> {
        Ok(Node::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<Node, Error> {
        v.serialize(self)
    }
    fn serialize_unit(self) -> Result<Node, Error> {
        Ok(Node::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Node, Error> {
        Ok(Node::Null)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<Node, Error> {
        Ok(Node::Text(name.to_owned()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        v: &T,
    ) -> Result<Node, Error> {
        v.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        v: &T,
    ) -> Result<Node, Error> {
        Ok(under(Some(name), v.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Building, Error> {
        Ok(Building::default())
    }
    fn serialize_tuple(self, _: usize) -> Result<Building, Error> {
        Ok(Building::default())
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        unreachable!("no wire form is a tuple struct of several fields")
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Building, Error> {
        Ok(variant(name))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Building, Error> {
        unreachable!("no wire form holds maps")
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Building, Error> {
        Ok(Building::default())
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Building, Error> {
        Ok(variant(name))
    }
}

impl SerializeSeq for Building {
    type Ok = Node;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Error> {
        self.items.push(node(v));
        Ok(())
    }
    fn end(self) -> Result<Node, Error> {
        Ok(self.list())
    }
}

impl SerializeTuple for Building {
    type Ok = Node;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Error> {
        self.items.push(node(v));
        Ok(())
    }
    // Arrays are tuples to serde: one of bytes is shown as such.
    fn end(self) -> Result<Node, Error> {
        let byte = |n: &Node| if let Node::Byte(b) = n { Some(*b) } else { None };
        match self.items.iter().map(byte).collect::<Option<Vec<u8>>>() {
            Some(bytes) => Ok(hex(bytes)),
            None => Ok(self.list()),
        }
    }
}

impl SerializeTupleVariant for Building {
    type Ok = Node;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Error> {
        self.items.push(node(v));
        Ok(())
    }
    fn end(self) -> Result<Node, Error> {
        Ok(self.list())
    }
}

impl SerializeMap for Building {
    type Ok = Node;
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Error> {
        unreachable!("no wire form holds maps")
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Error> {
        unreachable!("no wire form holds maps")
    }
    fn end(self) -> Result<Node, Error> {
        Ok(self.object())
    }
}

impl SerializeStruct for Building {
    type Ok = Node;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        v: &T,
    ) -> Result<(), Error> {
        self.fields.push((name.to_owned(), node(v)));
        Ok(())
    }
    fn end(self) -> Result<Node, Error> {
        Ok(self.object())
    }
}

impl SerializeStructVariant for Building {
    type Ok = Node;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        v: &T,
    ) -> Result<(), Error> {
        self.fields.push((name.to_owned(), node(v)));
        Ok(())
    }
    fn end(self) -> Result<Node, Error> {
        Ok(self.object())
    }
}
