//! Looks at every name in a value by serialising it into nothing.

use std::cell::Cell;
use std::fmt::{self, Display, Write};

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

use super::pattern::SEPARATOR;
use super::{Decision, SensitivePolicy, watch};

/// What the names in `value`, and any [`Sensitive`](super::Sensitive) in it, say.
pub(super) fn walk<T: Serialize + ?Sized>(
    policy: &SensitivePolicy,
    name: &str,
    value: &T,
) -> Decision {
    let (binary, asked) = walk_as(policy, name, value, false);
    // A value that shows itself differently to people is looked at in both shapes.
    if asked { binary.max(walk_as(policy, name, value, true).0) } else { binary }
}

/// What one shape of the value says, and whether it has another one.
fn walk_as<T: Serialize + ?Sized>(
    policy: &SensitivePolicy,
    name: &str,
    value: &T,
    human_readable: bool,
) -> (Decision, bool) {
    let mut path = String::with_capacity(64);
    path.push_str(name);
    let mut walk = Walk {
        policy,
        strongest: policy.strongest(),
        found: Decision::Plain,
        path,
        value_at: name.len() + 1,
        human_readable,
        asked: Cell::new(false),
    };
    let (walked, seen) = watch(|| value.serialize(&mut walk));
    // A value that refuses to be serialised here: better sealed than sorry; the codec will say what is wrong.
    let marked = seen || matches!(walked, Err(Stop::Failed));
    let found = walk.found.max(if marked { Decision::Seal } else { Decision::Plain });
    (found, walk.asked.get())
}

struct Walk<'p> {
    policy: &'p SensitivePolicy,
    strongest: Decision,
    found: Decision,
    path: String,
    /// Where the names inside the value begin.
    value_at: usize,
    human_readable: bool,
    /// Whether the value asked for whom it is serialised.
    asked: Cell<bool>,
}

#[derive(Debug)]
enum Stop {
    /// No name can say more.
    Enough,
    /// The value's own `Serialize` failed.
    Failed,
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: Display>(_: T) -> Self {
        Self::Failed
    }
}

type Step = Result<(), Stop>;

impl Walk<'_> {
    /// Goes into a name, looks at it, goes on with what is under it, and comes back.
    fn under<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Step {
        let back = self.path.len();
        self.path.push(SEPARATOR);
        self.path.push_str(name);
        self.look(name)?;
        value.serialize(&mut *self)?;
        self.path.truncate(back);
        Ok(())
    }

    fn look(&mut self, name: &str) -> Step {
        let found = self.policy.decide_path(&self.path, Some(self.value_at), name);
        self.found = self.found.max(found);
        if self.found >= self.strongest { Err(Stop::Enough) } else { Ok(()) }
    }
}

macro_rules! nothing {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, _: $type) -> Step { Ok(()) })*
    };
}

impl<'w, 'p> Serializer for &'w mut Walk<'p> {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Inside<'w, 'p>;
    type SerializeMap = Inside<'w, 'p>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Inside<'w, 'p>;

    nothing! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    fn is_human_readable(&self) -> bool {
        self.asked.set(true);
        self.human_readable
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Step {
        Ok(())
    }

    fn serialize_none(self) -> Step {
        Ok(())
    }

    fn serialize_unit(self) -> Step {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Step {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Step {
        self.under(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Stop> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Stop> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Stop> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'w, 'p>, Stop> {
        Inside::variant(self, variant)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Inside<'w, 'p>, Stop> {
        let back = self.path.len();
        Ok(Inside { walk: self, back })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Stop> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'w, 'p>, Stop> {
        Inside::variant(self, variant)
    }
}

/// Inside something that added to the path, or will.
struct Inside<'w, 'p> {
    walk: &'w mut Walk<'p>,
    /// Where the path ended before.
    back: usize,
}

impl<'w, 'p> Inside<'w, 'p> {
    fn variant(walk: &'w mut Walk<'p>, variant: &str) -> Result<Self, Stop> {
        let back = walk.path.len();
        walk.path.push(SEPARATOR);
        walk.path.push_str(variant);
        walk.look(variant)?;
        Ok(Self { walk, back })
    }

    fn leave(self) {
        self.walk.path.truncate(self.back);
    }
}

macro_rules! elements {
    ($($trait:ident $method:ident),*) => {
        $(impl ser::$trait for &mut Walk<'_> {
            type Ok = ();
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
                value.serialize(&mut **self)
            }

            fn end(self) -> Step {
                Ok(())
            }
        })*
    };
}

elements!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field
);

impl ser::SerializeTupleVariant for Inside<'_, '_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        value.serialize(&mut *self.walk)
    }

    fn end(self) -> Step {
        self.leave();
        Ok(())
    }
}

impl ser::SerializeMap for Inside<'_, '_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Step {
        self.walk.path.truncate(self.back);
        self.walk.path.push(SEPARATOR);
        let name_at = self.walk.path.len();
        key.serialize(Name { path: &mut self.walk.path })?;
        let name = self.walk.path.get(name_at..).unwrap_or_default();
        let found = self.walk.policy.decide_path(&self.walk.path, Some(self.walk.value_at), name);
        self.walk.found = self.walk.found.max(found);
        if self.walk.found >= self.walk.strongest { Err(Stop::Enough) } else { Ok(()) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        value.serialize(&mut *self.walk)
    }

    fn end(self) -> Step {
        self.leave();
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Walk<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Step {
        self.under(name, value)
    }

    fn end(self) -> Step {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Inside<'_, '_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Step {
        self.walk.under(name, value)
    }

    fn end(self) -> Step {
        self.leave();
        Ok(())
    }
}

/// Writes a map's key to the path. Keys that are no text have no name.
struct Name<'a> {
    path: &'a mut String,
}

macro_rules! shown {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Step {
            write!(self.path, "{value}").map_err(|_| Stop::Failed)
        })*
    };
}

impl Serializer for Name<'_> {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Impossible<(), Stop>;
    type SerializeTuple = Impossible<(), Stop>;
    type SerializeTupleStruct = Impossible<(), Stop>;
    type SerializeTupleVariant = Impossible<(), Stop>;
    type SerializeMap = Impossible<(), Stop>;
    type SerializeStruct = Impossible<(), Stop>;
    type SerializeStructVariant = Impossible<(), Stop>;

    shown! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str,
        serialize_unit_struct: &'static str,
    }

    fn serialize_bytes(self, value: &[u8]) -> Step {
        self.path.push_str(&String::from_utf8_lossy(value));
        Ok(())
    }

    fn serialize_none(self) -> Step {
        Ok(())
    }

    fn serialize_unit(self) -> Step {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Step {
        self.path.push_str(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Step {
        Err(Stop::Failed)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Stop> {
        Err(Stop::Failed)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Stop> {
        Err(Stop::Failed)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Stop> {
        Err(Stop::Failed)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Stop> {
        Err(Stop::Failed)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Stop> {
        Err(Stop::Failed)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Stop> {
        Err(Stop::Failed)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Stop> {
        Err(Stop::Failed)
    }
}
