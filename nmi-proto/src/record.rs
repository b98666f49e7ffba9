//! Record headers and descriptors (section 2.3): bounds are checked here, once, for both sides.

use crate::error::{DecodeError, Part};
use crate::layout::Structure;
use crate::text::CodePage;
use binrw::{BinRead, BinWrite};
use std::io::Cursor;

/// Bytes of a record header without descriptors.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Bytes of a section descriptor.
pub const SECTION_DESCRIPTOR_BYTES: usize = 8;
/// Bytes of a cascade descriptor.
pub const CASCADE_DESCRIPTOR_BYTES: usize = 12;

/// `NMsecRecordHdr`, 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big)]
pub struct RecordHeader {
    /// `NMsRIdent`.
    pub ident: [u8; 4],
    /// `NMsRLength`: bytes of the whole record, a multiple of 4.
    pub length: u32,
    /// `NMsRHdrLength`: bytes of the header and all descriptors.
    pub header_length: u16,
    /// `NMsRNumSec`: section descriptors.
    pub sections: u16,
    /// `NMsRNumCasc`: cascade descriptors, 0 or 1.
    pub cascades: u16,
    /// `NMsRRsvd1`: zero.
    pub reserved: u16,
}

/// `NMsecSecDesc`, 8 bytes: where the instances of one section are. All zero: absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BinRead, BinWrite)]
#[brw(big)]
pub struct SectionDescriptor {
    /// `NMsSOff`: from the start of the record.
    pub offset: u32,
    /// `NMsSLen`: bytes of one instance.
    pub length: u16,
    /// `NMsSNum`: consecutive instances.
    pub number: u16,
}

/// `NMsecCascDesc`, 12 bytes: where the cascaded records are. All zero: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BinRead, BinWrite)]
#[brw(big)]
pub struct CascadeDescriptor {
    /// `NMsCOff`: from the start of the record.
    pub offset: u32,
    /// `NMsCLen`: bytes of all of them.
    pub length: u32,
    /// `NMsCNum`: records.
    pub number: u32,
}

/// A record whose header and descriptors have been checked against its bytes.
#[derive(Debug, Clone)]
pub struct RecordView<'a> {
    page: CodePage,
    bytes: &'a [u8],
    header: RecordHeader,
    sections: Vec<SectionDescriptor>,
    cascade: Option<CascadeDescriptor>,
}

fn read_at<T: for<'t> BinRead<Args<'t> = ()> + binrw::meta::ReadEndian>(
    bytes: &[u8],
    at: usize,
) -> Option<T> {
    T::read(&mut Cursor::new(bytes.get(at..)?)).ok()
}

impl<'a> RecordView<'a> {
    /// The record at the start of `bytes`, and what follows it. Checks ident, then length, then descriptors.
    ///
    /// # Errors
    /// The first fault found.
    pub fn split(bytes: &'a [u8], page: CodePage) -> Result<(Self, &'a [u8]), DecodeError> {
        let Some(header) = read_at::<RecordHeader>(bytes, 0) else {
            return Err(DecodeError::Short {
                what: Part::Record,
                length: bytes.len(),
                need: RECORD_HEADER_BYTES,
            });
        };
        match CodePage::of_record_ident(header.ident) {
            Some(found) if found == page => {}
            Some(found) => return Err(DecodeError::MixedPages { expected: page, found }),
            None => return Err(DecodeError::Ident { found: header.ident, at: 0 }),
        }
        let length = header.length as usize;
        if length < RECORD_HEADER_BYTES || !length.is_multiple_of(4) || length > bytes.len() {
            return Err(DecodeError::RecordLength { length: header.length, left: bytes.len() });
        }
        let (bytes, rest) = bytes.split_at(length);
        let (n, c) = (usize::from(header.sections), usize::from(header.cascades));
        let head = RECORD_HEADER_BYTES + n * SECTION_DESCRIPTOR_BYTES + c * CASCADE_DESCRIPTOR_BYTES;
        if c > 1 {
            return Err(DecodeError::Shape { sections: n, cascades: c });
        }
        if usize::from(header.header_length) != head || head > length {
            return Err(DecodeError::HeaderLength {
                what: Part::Record,
                found: u32::from(header.header_length),
                expected: u32::try_from(head).unwrap_or(u32::MAX),
            });
        }
        let mut view = Self { page, bytes, header, sections: Vec::with_capacity(n), cascade: None };
        // What was described so far ends here; sections follow each other in the order of their descriptors.
        let mut end = head;
        for index in 0..n {
            let at = RECORD_HEADER_BYTES + index * SECTION_DESCRIPTOR_BYTES;
            let d: SectionDescriptor = read_at(bytes, at).unwrap_or_default();
            let size = usize::from(d.length) * usize::from(d.number);
            end = view.check(index, d.offset, d.length.into(), d.number.into(), size, end)?;
            view.sections.push(d);
        }
        if c == 1 {
            let d: CascadeDescriptor = read_at(bytes, head - CASCADE_DESCRIPTOR_BYTES).unwrap_or_default();
            view.check(n, d.offset, d.length, d.number, d.length as usize, end)?;
            view.cascade = Some(d);
        }
        Ok((view, rest))
    }

    /// Checks one descriptor; returns where the next may begin.
    fn check(
        &self,
        index: usize,
        offset: u32,
        length: u32,
        number: u32,
        size: usize,
        from: usize,
    ) -> Result<usize, DecodeError> {
        let fault = || DecodeError::Descriptor { index, offset, length, number, record: self.bytes.len() };
        if offset == 0 && length == 0 && number == 0 {
            return Ok(from);
        }
        let start = offset as usize;
        // An instance without bytes could be there 65535 times at no cost to the sender.
        if length == 0 || number == 0 || start < from || !start.is_multiple_of(4) {
            return Err(fault());
        }
        start.checked_add(size).filter(|&end| end <= self.bytes.len()).ok_or_else(fault)
    }

    /// Code page.
    #[must_use]
    pub const fn page(&self) -> CodePage {
        self.page
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// The whole record.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of section descriptors.
    #[must_use]
    pub fn section_count(&self) -> usize {
        self.sections.len()
    }

    /// Whether there is a cascade descriptor (even one that says "none").
    #[must_use]
    pub const fn has_cascade(&self) -> bool {
        self.cascade.is_some()
    }

    /// The instances of the `n`-th section (from 0); none if it is absent or has no descriptor.
    pub fn instances(&self, n: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let d = self.sections.get(n).copied().unwrap_or_default();
        let (at, length) = (d.offset as usize, usize::from(d.length));
        let bytes = self.bytes;
        (0..usize::from(d.number)).map_while(move |i| bytes.get(at + i * length..at + (i + 1) * length))
    }

    /// All instances of a section.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn all<S: Structure>(&self, n: usize) -> Result<Vec<S>, DecodeError> {
        self.instances(n).map(|bytes| S::read(bytes, self.page)).collect()
    }

    /// The only instance of a section that may be absent.
    ///
    /// # Errors
    /// It cannot be read, or there are several.
    pub fn optional<S: Structure>(&self, n: usize) -> Result<Option<S>, DecodeError> {
        let mut all = self.instances(n);
        let first = all.next();
        match all.count() {
            0 => first.map(|bytes| S::read(bytes, self.page)).transpose(),
            more => Err(DecodeError::SectionCount { what: S::NAME, found: more + 1 }),
        }
    }

    /// The only instance of a section that must be there.
    ///
    /// # Errors
    /// It cannot be read, is absent, or there are several.
    pub fn one<S: Structure>(&self, n: usize) -> Result<S, DecodeError> {
        self.optional(n)?.ok_or(DecodeError::SectionCount { what: S::NAME, found: 0 })
    }

    /// Bytes of a section of variable length, empty if absent.
    #[must_use]
    pub fn variable(&self, n: usize) -> &'a [u8] {
        self.instances(n).next().unwrap_or_default()
    }

    /// The cascaded records.
    ///
    /// # Errors
    /// They do not fill their container.
    pub fn cascaded(&self) -> Result<Vec<Self>, DecodeError> {
        let d = self.cascade.unwrap_or_default();
        let bytes = &self.bytes[d.offset as usize..][..d.length as usize];
        split_all(bytes, d.number, self.page).map_err(|e| {
            e.unwrap_or(DecodeError::Records {
                offset: d.offset,
                length: d.length,
                number: d.number,
                message: self.bytes.len(),
            })
        })
    }
}

/// Cuts `bytes` into exactly `number` records. `Err(None)`: the number is wrong.
pub(crate) fn split_all(
    mut bytes: &[u8],
    number: u32,
    page: CodePage,
) -> Result<Vec<RecordView<'_>>, Option<DecodeError>> {
    // A record has at least its header, so a number that lies reserves nothing.
    let mut records = Vec::with_capacity((number as usize).min(bytes.len() / RECORD_HEADER_BYTES));
    for _ in 0..number {
        if bytes.is_empty() {
            return Err(None);
        }
        let (record, rest) = RecordView::split(bytes, page).map_err(Some)?;
        records.push(record);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(records) } else { Err(None) }
}

/// Builds a record section by section, in the order of its type.
#[derive(Debug)]
pub struct RecordBuilder {
    page: CodePage,
    /// Length of an instance, and the instances.
    sections: Vec<(u16, Vec<u8>)>,
    /// Number of records, and their bytes.
    cascade: Option<(u32, Vec<u8>)>,
}

impl RecordBuilder {
    /// A record without sections.
    #[must_use]
    pub const fn new(page: CodePage) -> Self {
        Self { page, sections: Vec::new(), cascade: None }
    }

    /// The code page.
    #[must_use]
    pub const fn page(&self) -> CodePage {
        self.page
    }

    /// A section with one instance.
    #[must_use]
    pub fn one<S: Structure>(self, s: &S) -> Self {
        self.all(std::slice::from_ref(s))
    }

    /// A section with any number of instances, at most 65535.
    #[must_use]
    pub fn all<S: Structure>(mut self, all: &[S]) -> Self {
        let all = &all[..all.len().min(usize::from(u16::MAX))];
        let mut bytes = vec![0; all.len() * S::SIZE];
        for (s, out) in all.iter().zip(bytes.chunks_exact_mut(S::SIZE)) {
            s.write(out, self.page);
        }
        // No structure is longer than a section can be: `structure!` checks it.
        self.sections.push((u16::try_from(S::SIZE).unwrap_or(u16::MAX), bytes));
        self
    }

    /// A section of variable length, absent if it is empty; cut at [`MAX_IDENTITY_BYTES`](crate::MAX_IDENTITY_BYTES).
    #[must_use]
    pub fn variable(mut self, bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(crate::MAX_IDENTITY_BYTES)];
        self.sections.push((u16::try_from(bytes.len()).unwrap_or(u16::MAX), bytes.to_vec()));
        self
    }

    /// The container of cascaded records, which may be empty.
    #[must_use]
    pub fn cascade(mut self, records: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let (mut number, mut bytes) = (0, Vec::new());
        for record in records {
            number += 1;
            bytes.extend_from_slice(&record);
        }
        self.cascade = Some((number, bytes));
        self
    }

    /// The bytes of the record.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let head = RECORD_HEADER_BYTES
            + self.sections.len() * SECTION_DESCRIPTOR_BYTES
            + if self.cascade.is_some() { CASCADE_DESCRIPTOR_BYTES } else { 0 };
        let mut out = Cursor::new(vec![0; head]);
        let mut body = Vec::new();
        let place = |body: &Vec<u8>| u32::try_from(head + body.len()).unwrap_or(u32::MAX);
        out.set_position(RECORD_HEADER_BYTES as u64);
        for (length, bytes) in &self.sections {
            let mut d = SectionDescriptor::default();
            if !bytes.is_empty() {
                let number = bytes.len() / usize::from(*length);
                d = SectionDescriptor {
                    offset: place(&body),
                    length: *length,
                    number: u16::try_from(number).unwrap_or(u16::MAX),
                };
                body.extend_from_slice(bytes);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            d.write(&mut out).expect("a Vec takes every write");
        }
        if let Some((number, bytes)) = &self.cascade {
            let mut d = CascadeDescriptor::default();
            if *number > 0 {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                d = CascadeDescriptor { offset: place(&body), length, number: *number };
                body.extend_from_slice(bytes);
            }
            d.write(&mut out).expect("a Vec takes every write");
        }
        let header = RecordHeader {
            ident: self.page.record_ident(),
            length: place(&body),
            header_length: u16::try_from(head).unwrap_or(u16::MAX),
            sections: u16::try_from(self.sections.len()).unwrap_or(u16::MAX),
            cascades: u16::from(self.cascade.is_some()),
            reserved: 0,
        };
        out.set_position(0);
        header.write(&mut out).expect("a Vec takes every write");
        let mut out = out.into_inner();
        out.append(&mut body);
        out
    }
}
