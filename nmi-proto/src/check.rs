//! The order in which a request is checked, and what each fault is answered with (section 2.5).
//!
//! [`Decoder`](crate::codec::Decoder) does steps 1 to 4. [`Request::check`] does 5 to 12. Then the server asks for
//! authority (13) and looks for the stack (14), and only then [`Request::body`] (15 and 16) looks at what the
//! records hold: nobody without authority learns from a fault code what the daemon knows.

use crate::code::{InputRule, MessageType, ReasonCode, RequestRule, ReturnCode, TargetRule};
use crate::codec::Frame;
use crate::control::{LoadPolicy, Subscription, TestPacket, Tunnel, VipaControl};
use crate::display::DefensiveControl;
use crate::error::{DecodeError, Part};
use crate::filter::{Criterion, InFilter};
use crate::header::{HEADER_BYTES, HEADER_LENGTH, InRecords, MessageHeader, OutRecords};
use crate::layout::Structure;
use crate::record::{RecordView, split_all};

/// What is wrong with a request, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause} ({rc}, {rsn})")]
pub struct Fault {
    /// Return code of the answer.
    pub rc: ReturnCode,
    /// Reason code of the answer.
    pub rsn: ReasonCode,
    /// Whether the connection ends: then a TERM carries the codes and there is no answer.
    pub closes: bool,
    /// For the log.
    pub cause: String,
}

impl Fault {
    fn invalid(rsn: ReasonCode, cause: impl Into<String>) -> Self {
        Self { rc: ReturnCode::EINVAL, rsn, closes: false, cause: cause.into() }
    }
}

impl From<DecodeError> for Fault {
    /// A bad ident and an excessive size end the connection, and so does a length that no framing can follow.
    fn from(error: DecodeError) -> Self {
        let closes = matches!(
            error,
            DecodeError::Ident { .. } | DecodeError::MixedPages { .. } | DecodeError::TooLarge { .. }
        );
        Self { closes, ..Self::invalid(error.reason(), error.to_string()) }
    }
}

impl Fault {
    /// A fault of the stream itself: the connection always ends.
    #[must_use]
    pub fn of_stream(error: DecodeError) -> Self {
        Self { closes: true, ..Self::from(error) }
    }
}

/// A request that is well-formed; what its sections hold has not been looked at.
#[derive(Debug)]
pub struct Request<'a> {
    header: MessageHeader,
    rule: RequestRule,
    target: Option<String>,
    records: Vec<RecordView<'a>>,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Objects that one of the filters matches, or all if there are none.
    Display(Vec<InFilter>),
    /// An action on these objects, or on all of its kind if there are none.
    Control(Vec<Tunnel>),
    /// Filters to put in force.
    LoadPolicy(LoadPolicy),
    /// An action on DVIPAs or their targets; never none.
    Vipa(Vec<VipaControl>),
    /// Events from now on.
    Subscribe(Subscription),
    /// An action on defensive filters; none: all of them, where the request allows that.
    Defensive(Vec<DefensiveControl>),
    /// What the filters would do with a packet.
    Test(TestPacket),
}

impl<'a> Request<'a> {
    /// Steps 5 to 12. The header to answer with comes from [`MessageHeader::read_lenient`] also when this fails.
    ///
    /// # Errors
    /// The first fault in the order of section 2.5.
    pub fn check(frame: &'a Frame) -> Result<Self, Fault> {
        let bytes = frame.bytes();
        let header = MessageHeader::read_lenient(bytes)?;
        // 5: what the header says of itself, where it is there to be read.
        if header.header_length != HEADER_LENGTH {
            let found = header.header_length;
            return Err(
                DecodeError::HeaderLength { what: Part::Message, found, expected: HEADER_LENGTH }.into()
            );
        }
        // 6
        if bytes.len() < HEADER_BYTES {
            let length = bytes.len();
            return Err(DecodeError::Short { what: Part::Message, length, need: HEADER_BYTES }.into());
        }
        // 7
        if !(1..=crate::VERSION).contains(&header.version) {
            return Err(Fault::invalid(ReasonCode::BAD_VERSION, format!("version {}", header.version)));
        }
        // 8
        let Some(rule) = header.message_type.request_rule() else {
            return Err(Fault::invalid(ReasonCode::BAD_TYPE, format!("type {}", header.message_type)));
        };
        // 9
        if header.reserved != 0 || header.input.reserved != 0 || header.output != OutRecords::default() {
            return Err(Fault::invalid(
                ReasonCode::RESERVED_NONZERO,
                "reserved data of the message header is set",
            ));
        }
        // 10: records are contiguous, directly behind the header, up to the end of the message.
        let InRecords { offset, length, number, .. } = header.input;
        let placed = if number == 0 { offset == 0 && length == 0 } else { offset == HEADER_LENGTH };
        if !placed || (HEADER_BYTES as u64) + u64::from(length) != bytes.len() as u64 {
            return Err(DecodeError::Records { offset, length, number, message: bytes.len() }.into());
        }
        // 11
        let records = split_all(&bytes[HEADER_BYTES..], number, frame.page()).map_err(|e| {
            e.unwrap_or(DecodeError::Records { offset, length, number, message: bytes.len() })
        })?;
        if records.iter().any(|r| r.header().reserved != 0) {
            return Err(Fault::invalid(
                ReasonCode::RESERVED_NONZERO,
                "reserved data of a record header is set",
            ));
        }
        // 12
        let name = header
            .target_name()
            .map_err(|e| Fault::invalid(ReasonCode::BAD_VALUE, format!("NMsMTarget: {e}")))?;
        let target = (!name.is_empty()).then_some(name);
        match (rule.target, &target) {
            (TargetRule::Stack, None) => {
                return Err(Fault::invalid(ReasonCode::BAD_TARGET, "a stack must be named"));
            }
            (TargetRule::Blank, Some(_)) => {
                return Err(Fault::invalid(ReasonCode::BAD_TARGET, "no stack may be named"));
            }
            _ => {}
        }
        Ok(Self { header, rule, target, records })
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &MessageHeader {
        &self.header
    }

    /// Its type.
    #[must_use]
    pub const fn message_type(&self) -> MessageType {
        self.header.message_type
    }

    /// What section 3 says of its type.
    #[must_use]
    pub const fn rule(&self) -> RequestRule {
        self.rule
    }

    /// The stack that it names.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Steps 15 and 16: number and content of the records.
    ///
    /// # Errors
    /// The first fault found.
    pub fn body(&self) -> Result<Body, Fault> {
        let (least, most) = match self.rule.input {
            InputRule::Nothing => (0, 0),
            InputRule::Filters => (0, crate::MAX_FILTERS),
            InputRule::Tunnels => (0, crate::MAX_TUNNELS),
            InputRule::LoadPolicy | InputRule::Packet => (1, 1),
            InputRule::Vipa => (1, crate::MAX_TUNNELS),
            InputRule::Subscription => (0, 1),
            InputRule::Defensive => (1, crate::MAX_TUNNELS),
            InputRule::DefensiveOrAll => (0, crate::MAX_TUNNELS),
        };
        if !(least..=most).contains(&self.records.len()) {
            let cause = format!("{} input records, {least} to {most} allowed", self.records.len());
            return Err(Fault::invalid(ReasonCode::RECORD_NUM, cause));
        }
        for record in &self.records {
            let (sections, cascades) = (record.section_count(), usize::from(record.has_cascade()));
            if (sections, cascades) != (1, 0) {
                return Err(DecodeError::Shape { sections, cascades }.into());
            }
            let found = record.instances(0).count();
            if found != 1 {
                return Err(DecodeError::SectionCount { what: "input section", found }.into());
            }
        }
        match self.rule.input {
            InputRule::Nothing => Ok(Body::Display(Vec::new())),
            InputRule::Filters => {
                let filters: Vec<InFilter> = self.sections()?;
                filters.iter().try_for_each(|f| self.check_filter(f))?;
                Ok(Body::Display(filters))
            }
            InputRule::Tunnels => {
                let tunnels: Vec<Tunnel> = self.sections()?;
                if let Some(bad) = tunnels.iter().find(|t| !t.fits(self.message_type())) {
                    let cause = format!(
                        "NMsecTunnel name {:?} id {:?} status {}",
                        bad.name, bad.tunnel_id, bad.status.0
                    );
                    return Err(Fault::invalid(ReasonCode::BAD_VALUE, cause));
                }
                Ok(Body::Control(tunnels))
            }
            InputRule::Vipa => {
                let objects: Vec<VipaControl> = self.sections()?;
                if let Some(bad) = objects.iter().find(|o| !o.fits(self.message_type())) {
                    let cause = format!(
                        "NMsecVipaControl DVIPA {:?} stack {:?} status {}",
                        bad.address(),
                        bad.stack,
                        bad.status.0
                    );
                    return Err(Fault::invalid(ReasonCode::BAD_VALUE, cause));
                }
                Ok(Body::Vipa(objects))
            }
            InputRule::Defensive | InputRule::DefensiveOrAll => {
                let objects: Vec<DefensiveControl> = self.sections()?;
                if let Some(bad) = objects.iter().find(|o| !o.fits(self.message_type())) {
                    let cause = format!("NMsecDefensiveControl {:?} does not fit", bad.name);
                    return Err(Fault::invalid(ReasonCode::BAD_VALUE, cause));
                }
                Ok(Body::Defensive(objects))
            }
            InputRule::Subscription => {
                let mut all: Vec<Subscription> = self.sections()?;
                Ok(Body::Subscribe(all.pop().unwrap_or_default()))
            }
            InputRule::Packet => {
                let mut all: Vec<TestPacket> = self.sections()?;
                match all.pop() {
                    Some(packet) if packet.fits() => Ok(Body::Test(packet)),
                    other => Err(Fault::invalid(ReasonCode::BAD_VALUE, format!("packet {other:?}"))),
                }
            }
            InputRule::LoadPolicy => {
                let mut all: Vec<LoadPolicy> = self.sections()?;
                match all.pop() {
                    Some(load) if load.filter_set.name().is_some() => Ok(Body::LoadPolicy(load)),
                    other => Err(Fault::invalid(ReasonCode::BAD_VALUE, format!("filter set {other:?}"))),
                }
            }
        }
    }

    /// The section of each record: exactly as long as it is here, its reserved data zero.
    fn sections<S: Structure>(&self) -> Result<Vec<S>, Fault> {
        self.records
            .iter()
            .flat_map(|record| record.instances(0).map(move |bytes| (record.page(), bytes)))
            .map(|(page, bytes)| {
                if bytes.len() != S::SIZE {
                    return Err(Fault::invalid(
                        ReasonCode::SEC_LENGTH,
                        format!("{} of {} bytes, {} expected", S::NAME, bytes.len(), S::SIZE),
                    ));
                }
                if let Some(field) = S::reserved_set(bytes) {
                    return Err(Fault::invalid(
                        ReasonCode::RESERVED_NONZERO,
                        format!("{} is set", field.name),
                    ));
                }
                Ok(S::read(bytes, page)?)
            })
            .collect()
    }

    fn check_filter(&self, filter: &InFilter) -> Result<(), Fault> {
        let allowed = Criterion::allowed(self.message_type());
        if let Some(c) = filter.criteria().find(|c| !allowed.contains(c)) {
            let cause = format!("criterion {c:?} with {}", self.message_type());
            return Err(Fault::invalid(ReasonCode::BAD_FILTER, cause));
        }
        if filter.criteria().next().is_none() {
            return Err(Fault::invalid(ReasonCode::BAD_FILTER, "a filter without criterion"));
        }
        if filter.has_bad_value() {
            return Err(Fault::invalid(
                ReasonCode::BAD_VALUE,
                "a criterion of a filter is blank or out of range",
            ));
        }
        Ok(())
    }
}
