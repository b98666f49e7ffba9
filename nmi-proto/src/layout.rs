//! Structures as tables: one row per field gives the Rust field, its place on the wire and its documentation.
//!
//! The rows are those of `docs/nmi.md`. That every bit of a structure belongs to exactly one row is checked when
//! the crate is compiled; that the rows are those of the document, by a test.

use crate::error::{DecodeError, TextFault};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

/// How certain a row is (section 0.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Documented for the product at exactly this place.
    D,
    /// The datum is documented, place and name are this project's.
    I,
    /// This project's.
    C,
}

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Some bits, the most significant first.
    Bits,
    /// An unsigned big-endian integer.
    Uint,
    /// Blank-padded text in the message's code page.
    Text,
    /// An address in 16 bytes.
    Addr,
    /// Seconds since 1970 UTC.
    Time,
    /// Bytes that are never translated.
    Bytes,
    /// Reserved, binary zero.
    Zero,
}

/// A row of a structure's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDef {
    /// Name on the wire.
    pub name: &'static str,
    /// Name in Rust and in JSON; empty for reserved rows.
    pub rust: &'static str,
    /// Byte offset.
    pub offset: usize,
    /// Bit in that byte, 0 is the most significant.
    pub bit: usize,
    /// Width in bits.
    pub bits: usize,
    /// How it is written.
    pub kind: Kind,
    /// How certain it is.
    pub source: Source,
    /// What it means.
    pub meaning: &'static str,
}

/// A field's value, for those who treat all structures alike (JSON, tests).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A flag.
    Bool(bool),
    /// A number.
    Uint(u64),
    /// A text.
    Text(String),
    /// An address; its family is in another field.
    Addr(Address),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A structure with a fixed layout.
pub trait Structure: Sized {
    /// Name, as `NMsecStack`.
    const NAME: &'static str;
    /// Bytes.
    const SIZE: usize;
    /// Section of `docs/nmi.md`.
    const SECTION: &'static str;
    /// All rows, reserved ones last.
    const FIELDS: &'static [FieldDef];

    /// Reads it from the start of `bytes`; what is longer comes from a later version and is left alone.
    ///
    /// # Errors
    /// `bytes` is too short, or a text field holds no text.
    fn read(bytes: &[u8], page: CodePage) -> Result<Self, DecodeError>;

    /// Writes it to the start of `bytes`, which is all zero and at least [`Self::SIZE`] long.
    fn write(&self, bytes: &mut [u8], page: CodePage);

    /// Shows each field in the order of the table.
    fn visit(&self, see: &mut dyn FnMut(&'static FieldDef, Value));

    /// Its bytes.
    #[must_use]
    fn to_bytes(&self, page: CodePage) -> Vec<u8> {
        let mut bytes = vec![0; Self::SIZE];
        self.write(&mut bytes, page);
        bytes
    }

    /// The first reserved row that is not zero in `bytes`.
    #[must_use]
    fn reserved_set(bytes: &[u8]) -> Option<&'static FieldDef> {
        Self::FIELDS.iter().filter(|f| f.kind == Kind::Zero).find(|f| {
            let start = f.offset * 8 + f.bit;
            (start..start + f.bits)
                .any(|bit| bytes.get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0))
        })
    }
}

/// A type that a field can have. `read` and `write` get exactly the field's bytes (a flag: the byte it lies in).
pub trait Field: Sized {
    /// Width in bits.
    const BITS: usize;
    /// How it is written.
    const KIND: Kind;
    /// Reads it.
    ///
    /// # Errors
    /// A byte that is no text.
    fn read(bytes: &[u8], bit: usize, page: CodePage) -> Result<Self, TextFault>;
    /// Writes it over zeros.
    fn write(&self, bytes: &mut [u8], bit: usize, page: CodePage);
    /// Its value.
    fn value(&self) -> Value;
}

impl Field for bool {
    const BITS: usize = 1;
    const KIND: Kind = Kind::Bits;
    fn read(bytes: &[u8], bit: usize, _: CodePage) -> Result<Self, TextFault> {
        Ok(bytes[0] & (0x80 >> bit) != 0)
    }
    fn write(&self, bytes: &mut [u8], bit: usize, _: CodePage) {
        bytes[0] |= u8::from(*self) << (7 - bit);
    }
    fn value(&self) -> Value {
        Value::Bool(*self)
    }
}

macro_rules! integer_fields {
    ($($int:ty),*) => { $(
        impl Field for $int {
            const BITS: usize = Self::BITS as usize;
            const KIND: Kind = Kind::Uint;
            fn read(bytes: &[u8], _: usize, _: CodePage) -> Result<Self, TextFault> {
                let mut raw = [0; size_of::<Self>()];
                raw.copy_from_slice(bytes);
                Ok(Self::from_be_bytes(raw))
            }
            fn write(&self, bytes: &mut [u8], _: usize, _: CodePage) {
                bytes.copy_from_slice(&self.to_be_bytes());
            }
            fn value(&self) -> Value {
                Value::Uint(u64::from(*self))
            }
        }
    )* };
}
integer_fields!(u8, u16, u32, u64);

impl<const N: usize> Field for Text<N> {
    const BITS: usize = N * 8;
    const KIND: Kind = Kind::Text;
    fn read(bytes: &[u8], _: usize, page: CodePage) -> Result<Self, TextFault> {
        page.read_padded(bytes).map(|s| Self::new(&s))
    }
    fn write(&self, bytes: &mut [u8], _: usize, page: CodePage) {
        page.write_padded(self, bytes);
    }
    fn value(&self) -> Value {
        Value::Text(self.as_str().to_owned())
    }
}

impl<const N: usize> Field for [u8; N] {
    const BITS: usize = N * 8;
    const KIND: Kind = Kind::Bytes;
    fn read(bytes: &[u8], _: usize, _: CodePage) -> Result<Self, TextFault> {
        let mut raw = [0; N];
        raw.copy_from_slice(bytes);
        Ok(raw)
    }
    fn write(&self, bytes: &mut [u8], _: usize, _: CodePage) {
        bytes.copy_from_slice(self);
    }
    fn value(&self) -> Value {
        Value::Bytes(self.to_vec())
    }
}

impl Field for Address {
    const BITS: usize = 128;
    const KIND: Kind = Kind::Addr;
    fn read(bytes: &[u8], bit: usize, page: CodePage) -> Result<Self, TextFault> {
        <[u8; 16]>::read(bytes, bit, page).map(Self)
    }
    fn write(&self, bytes: &mut [u8], _: usize, _: CodePage) {
        bytes.copy_from_slice(&self.0);
    }
    fn value(&self) -> Value {
        Value::Addr(*self)
    }
}

impl Field for Time {
    const BITS: usize = 32;
    const KIND: Kind = Kind::Time;
    fn read(bytes: &[u8], bit: usize, page: CodePage) -> Result<Self, TextFault> {
        u32::read(bytes, bit, page).map(Self)
    }
    fn write(&self, bytes: &mut [u8], bit: usize, page: CodePage) {
        self.0.write(bytes, bit, page);
    }
    fn value(&self) -> Value {
        Value::Uint(u64::from(self.0))
    }
}

/// Bytes that the field at `offset` of `bits` bits lies in.
pub(crate) const fn span(offset: usize, bits: usize) -> std::ops::Range<usize> {
    offset..offset + bits.div_ceil(8)
}

/// Whether the rows cover `size` bytes, each bit once. Evaluated at compile time.
pub(crate) const fn tiles(fields: &[FieldDef], size: usize) -> bool {
    let mut sum = 0;
    let mut i = 0;
    while i < fields.len() {
        let (start, end) =
            (fields[i].offset * 8 + fields[i].bit, fields[i].offset * 8 + fields[i].bit + fields[i].bits);
        let mut j = 0;
        while j < i {
            let (a, b) =
                (fields[j].offset * 8 + fields[j].bit, fields[j].offset * 8 + fields[j].bit + fields[j].bits);
            if start < b && a < end {
                return false;
            }
            j += 1;
        }
        if fields[i].bit > 7 || end > size * 8 {
            return false;
        }
        sum += fields[i].bits;
        i += 1;
    }
    sum == size * 8 && size <= u16::MAX as usize
}

/// `[offset:bit]` with the bit left out is bit 0.
macro_rules! bit_or_zero {
    () => {
        0
    };
    ($bit:literal) => {
        $bit
    };
}

/// Declares a [`Structure`]: `Name = "wire name", size, "section" { rows } reserved { rows }`.
macro_rules! structure {
    (
        $(#[$attr:meta])*
        $name:ident = $wire:literal, $size:literal, $section:literal {
            $( $(#[doc = $doc:literal])* [$off:literal $(: $bit:literal)? $src:ident $wname:literal] $field:ident : $ty:ty, )*
        } reserved {
            $( [$roff:literal $(: $rbit:literal)? $rsrc:ident $rname:literal] $rbits:literal, )*
        }
    ) => {
        $(#[$attr])*
        #[doc = concat!("\n\n`", $wire, "`, ", stringify!($size), " bytes, section ", $section, ".")]
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $doc])* #[doc = concat!("\n\n`", $wname, "`")] pub $field: $ty, )*
        }

        impl $crate::layout::Structure for $name {
            const NAME: &'static str = $wire;
            const SIZE: usize = $size;
            const SECTION: &'static str = $section;
            const FIELDS: &'static [$crate::layout::FieldDef] = &[
                $( $crate::layout::FieldDef {
                    name: $wname,
                    rust: stringify!($field),
                    offset: $off,
                    bit: bit_or_zero!($($bit)?),
                    bits: <$ty as $crate::layout::Field>::BITS,
                    kind: <$ty as $crate::layout::Field>::KIND,
                    source: $crate::layout::Source::$src,
                    meaning: concat!($($doc),*),
                }, )*
                $( $crate::layout::FieldDef {
                    name: $rname,
                    rust: "",
                    offset: $roff,
                    bit: bit_or_zero!($($rbit)?),
                    bits: $rbits,
                    kind: $crate::layout::Kind::Zero,
                    source: $crate::layout::Source::$rsrc,
                    meaning: " Reserved.",
                }, )*
            ];

            fn read(bytes: &[u8], page: $crate::text::CodePage) -> Result<Self, $crate::DecodeError> {
                let bytes = bytes.get(..$size).ok_or($crate::DecodeError::Short {
                    what: $crate::Part::Section($wire),
                    length: bytes.len(),
                    need: $size,
                })?;
                Ok(Self { $(
                    $field: <$ty as $crate::layout::Field>::read(
                        &bytes[$crate::layout::span($off, <$ty as $crate::layout::Field>::BITS)],
                        bit_or_zero!($($bit)?),
                        page,
                    ).map_err(|fault| $crate::DecodeError::Text { structure: $wire, field: $wname, fault })?,
                )* })
            }

            fn write(&self, bytes: &mut [u8], page: $crate::text::CodePage) {
                $( $crate::layout::Field::write(
                    &self.$field,
                    &mut bytes[$crate::layout::span($off, <$ty as $crate::layout::Field>::BITS)],
                    bit_or_zero!($($bit)?),
                    page,
                ); )*
            }

            fn visit(&self, see: &mut dyn FnMut(&'static $crate::layout::FieldDef, $crate::layout::Value)) {
                let mut fields = <Self as $crate::layout::Structure>::FIELDS.iter();
                $( if let Some(def) = fields.next() {
                    see(def, <$ty as $crate::layout::Field>::value(&self.$field));
                } )*
            }
        }

        const _: () = assert!(
            $crate::layout::tiles(<$name as $crate::layout::Structure>::FIELDS, $size),
            concat!($wire, ": a bit in no row, in two, or outside"),
        );
    };
}
