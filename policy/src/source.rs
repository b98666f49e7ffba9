//! The files of a policy and places in them.

use crate::report::Findings;
use zeroize::Zeroizing;

/// Bytes that one file may have.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// One file of the policy, already read. It holds secrets, so it is wiped when dropped.
#[derive(Clone)]
pub struct Source {
    name: String,
    bytes: Zeroizing<Vec<u8>>,
    layer: Layer,
}

/// For whom a file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// For all stacks (CommonIPSecConfig).
    Common,
    /// For one stack (IPSecConfig): its policy blocks replace those of the common file.
    Stack,
}

impl Source {
    /// A file for all stacks. `name` is shown in messages.
    #[must_use]
    pub fn common(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes: Zeroizing::new(bytes), layer: Layer::Common }
    }
    /// A file for one stack. `name` is shown in messages.
    #[must_use]
    pub fn stack(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes: Zeroizing::new(bytes), layer: Layer::Stack }
    }
    /// Name as shown in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its text; `None`, with an error, if it is too large or none. `file` is its index.
    pub(crate) fn text(&self, file: usize, findings: &mut Findings<'_>) -> Option<&str> {
        let at = |start, end| Span { file, start, end };
        if self.bytes.len() > MAX_FILE_BYTES {
            findings
                .error(at(0, 0), format!("the file has {} bytes", self.bytes.len()))
                .label(format!("at most {MAX_FILE_BYTES} are accepted"));
            return None;
        }
        std::str::from_utf8(&self.bytes)
            .inspect_err(|e| {
                let start = e.valid_up_to();
                findings
                    .error(at(start, start + 1), "the file is not UTF-8 text")
                    .label("first invalid byte");
            })
            .ok()
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    pub(crate) const fn layer(&self) -> Layer {
        self.layer
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({:?}, {:?}, {} bytes)", self.name, self.layer, self.bytes.len())
    }
}

/// A piece of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Index of the file.
    pub(crate) file: usize,
    /// First byte.
    pub(crate) start: usize,
    /// Byte behind the last one.
    pub(crate) end: usize,
}

impl Span {
    /// From the start of this one to the end of `last`.
    pub(crate) const fn to(self, last: Self) -> Self {
        Self { file: self.file, start: self.start, end: last.end }
    }
}
