//! A blocking client over a Unix socket (feature `client`): for the `ipsec` command, tests and monitors.

use crate::answer::{Answer, Message, input_record, request};
use crate::code::{MessageType, ReasonCode, ReturnCode};
use crate::codec::Decoder;
use crate::control::{LoadPolicy, Subscription, TestPacket, Tunnel, VipaControl};
use crate::display::{
    AuthorityRecord, DefensiveControl, DefensiveRecord, Distribution, DropCount, DvipaRecord, DynIkeRecord,
    DynStackRecord, Event, FilterRecord, IkeRecord, Interface, ManualRecord, Nss, PortTranslation, Record,
    StackRecord, Statistics, TakeoverRecord, TestRecord, VipaTarget,
};
use crate::error::DecodeError;
use crate::filter::InFilter;
use crate::text::CodePage;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket could not be reached: no daemon, or no permission for its folder.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// Path of the socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The daemon has not sent INIT in time: it has no policy yet.
    #[error("the daemon is not ready: no policy has been loaded yet")]
    NotReady,
    /// No answer in time.
    #[error("the daemon does not answer")]
    Timeout,
    /// The connection broke.
    #[error("connection to the daemon: {0}")]
    Io(#[from] io::Error),
    /// The daemon ended the connection and said why.
    #[error("the daemon ended the connection: {rc}, {rsn}")]
    Terminated {
        /// Return code.
        rc: ReturnCode,
        /// Reason code.
        rsn: ReasonCode,
    },
    /// The daemon ended the connection without a word.
    #[error("the daemon closed the connection")]
    Closed,
    /// The daemon refused the request.
    #[error("request refused: {rc}, {rsn}")]
    Refused {
        /// Return code.
        rc: ReturnCode,
        /// Reason code.
        rsn: ReasonCode,
    },
    /// The daemon sent something that is not of this format.
    #[error("bad message from the daemon: {0}")]
    Decode(#[from] DecodeError),
    /// The daemon sent a well-formed message that is not due.
    #[error("unexpected message {found} (correlator {correlator:?})")]
    Unexpected {
        /// Type.
        found: MessageType,
        /// Correlator.
        correlator: [u8; 8],
    },
    /// The request would be larger than a daemon takes.
    #[error("request of {0} bytes, at most {limit} are taken", limit = crate::MAX_REQUEST_BYTES)]
    RequestTooLarge(usize),
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    page: CodePage,
    version: u16,
    correlator: u64,
    trace: Option<fn(Sent, &[u8])>,
    events: EventQueue,
    timeout: Option<Duration>,
}

/// Events that are kept while an answer is awaited; of more the oldest are lost, and counted in the next.
const KEPT_EVENTS: usize = 65_536;

/// Events that came while an answer was awaited.
#[derive(Debug, Default)]
pub(crate) struct EventQueue(VecDeque<Event>);

impl EventQueue {
    /// Keeps the events of an EVENT message.
    pub(crate) fn keep(&mut self, message: &Message) -> Result<(), DecodeError> {
        for event in message.parse::<Event>()?.records {
            self.0.push_back(event);
            if self.0.len() > KEPT_EVENTS {
                let lost = self.0.pop_front().map_or(0, |e| e.lost + 1);
                if let Some(oldest) = self.0.front_mut() {
                    oldest.lost += lost;
                }
            }
        }
        Ok(())
    }

    /// The oldest.
    pub(crate) fn take(&mut self) -> Option<Event> {
        self.0.pop_front()
    }
}

/// Whose message a trace is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The client's.
    ByUs,
    /// The daemon's.
    ByDaemon,
}

impl Client {
    /// Connects and waits for INIT, at most `timeout`; `timeout` also holds for each later wait. `None`: for ever.
    ///
    /// # Errors
    /// No daemon, no INIT, or a TERM in its place (too many clients).
    pub fn connect(path: impl AsRef<Path>, timeout: Option<Duration>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path)
            .map_err(|source| ClientError::Connect { path: path.display().to_string(), source })?;
        Self::on(stream, timeout)
    }

    /// As [`Self::connect`], on a connected socket.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn on(stream: UnixStream, timeout: Option<Duration>) -> Result<Self, ClientError> {
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        let mut client = Self {
            stream,
            decoder: Decoder::new(crate::MAX_ANSWER_BYTES),
            page: CodePage::Ascii,
            version: 0,
            correlator: 0,
            trace: None,
            events: EventQueue::default(),
            timeout,
        };
        let init = client.receive().map_err(|e| match e {
            ClientError::Timeout => ClientError::NotReady,
            other => other,
        })?;
        if init.header.message_type != MessageType::INIT {
            return Err(ClientError::Unexpected {
                found: init.header.message_type,
                correlator: init.header.correlator,
            });
        }
        client.page = init.header.page;
        client.version = init.header.version;
        Ok(client)
    }

    /// Code page of the requests from here on; at first that of INIT.
    pub const fn set_page(&mut self, page: CodePage) {
        self.page = page;
    }

    /// Shows every message from here on to `trace`, as it is on the wire.
    pub const fn set_trace(&mut self, trace: fn(Sent, &[u8])) {
        self.trace = Some(trace);
    }

    /// Highest interface version that the daemon supports.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The next message; a TERM is an error.
    fn receive(&mut self) -> Result<Message, ClientError> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                if let Some(trace) = self.trace {
                    trace(Sent::ByDaemon, frame.bytes());
                }
                let message = Message::read(frame)?;
                if message.header.message_type == MessageType::TERM {
                    let (rc, rsn) = (message.header.return_code, message.header.reason_code);
                    return Err(ClientError::Terminated { rc, rsn });
                }
                return Ok(message);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(n) => self.decoder.push(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(ClientError::Timeout);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends a request of whole input records and returns the answer, refused or not.
    ///
    /// # Errors
    /// The connection, or an answer that is not the one to this request.
    pub fn exchange(
        &mut self,
        message_type: MessageType,
        target: &str,
        input: &[Vec<u8>],
    ) -> Result<Message, ClientError> {
        self.correlator += 1;
        let bytes = request(self.page, message_type, target, self.correlator, input);
        if bytes.len() > crate::MAX_REQUEST_BYTES as usize {
            return Err(ClientError::RequestTooLarge(bytes.len()));
        }
        if let Some(trace) = self.trace {
            trace(Sent::ByUs, &bytes);
        }
        // A daemon that has just closed says why in a TERM that is still to be read.
        let sent = self.stream.write_all(&bytes);
        let answer = match (self.receive_answer(), sent) {
            (Err(ClientError::Closed | ClientError::Io(_)), Err(e)) => return Err(e.into()),
            (answer, _) => answer?,
        };
        let header = &answer.header;
        if header.message_type != message_type || header.correlator != self.correlator.to_be_bytes() {
            return Err(ClientError::Unexpected {
                found: header.message_type,
                correlator: header.correlator,
            });
        }
        Ok(answer)
    }

    /// The next message that is no event; events before it are kept for [`Self::next_event`].
    fn receive_answer(&mut self) -> Result<Message, ClientError> {
        loop {
            let message = self.receive()?;
            if message.header.message_type != MessageType::EVENT {
                return Ok(message);
            }
            self.events.keep(&message)?;
        }
    }

    /// Asks for events (project extension): of one stack, or with a blank `stack` of all that the caller may display.
    /// `kinds` is a sum of [`EventKind::bit`](crate::code::EventKind::bit)s, or 0 for all. A second subscription
    /// replaces the first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn subscribe(&mut self, stack: &str, kinds: u32) -> Result<(), ClientError> {
        let input = [input_record(self.page, &Subscription { kinds })];
        self.accepted(MessageType::SUBSCRIBE, stack, &input).map(drop)
    }

    /// Ends the subscription. Events that came before can still be taken.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn unsubscribe(&mut self) -> Result<(), ClientError> {
        self.accepted(MessageType::UNSUBSCRIBE, "", &[]).map(drop)
    }

    /// The next event, however long it takes, or `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, ClientError> {
        if let Some(event) = self.events.take() {
            return Ok(Some(event));
        }
        self.stream.set_read_timeout(timeout)?;
        let received = self.receive();
        self.stream.set_read_timeout(self.timeout)?;
        match received {
            Ok(message) if message.header.message_type == MessageType::EVENT => {
                self.events.keep(&message)?;
                Ok(self.events.take())
            }
            Ok(message) => Err(ClientError::Unexpected {
                found: message.header.message_type,
                correlator: message.header.correlator,
            }),
            Err(ClientError::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn accepted(&mut self, ty: MessageType, target: &str, input: &[Vec<u8>]) -> Result<Message, ClientError> {
        let answer = self.exchange(ty, target, input)?;
        match answer.refusal() {
            Some((rc, rsn)) => Err(ClientError::Refused { rc, rsn }),
            None => Ok(answer),
        }
    }

    /// A display request. `target` is blank for requests without one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn display<R: Record>(
        &mut self,
        message_type: MessageType,
        target: &str,
        filters: &[InFilter],
    ) -> Result<Answer<R>, ClientError> {
        debug_assert!(R::TYPES.contains(&message_type), "{message_type} has other records");
        let page = self.page;
        let input: Vec<_> = filters.iter().map(|f| input_record(page, f)).collect();
        Ok(self.accepted(message_type, target, &input)?.parse()?)
    }

    /// All active stacks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn stacks(&mut self) -> Result<Answer<StackRecord>, ClientError> {
        self.display(MessageType::GET_STACKINFO, "", &[])
    }

    /// Counters of a stack.
    ///
    /// # Errors
    /// See [`ClientError`]; an answer without a record is a [`DecodeError::SectionCount`].
    pub fn summary(&mut self, stack: &str) -> Result<Statistics, ClientError> {
        let mut answer = self.display(MessageType::GET_SUMMARY, stack, &[])?;
        let found = answer.records.len();
        match (answer.records.pop(), found) {
            (Some(one), 1) => Ok(one),
            _ => Err(DecodeError::SectionCount { what: "NMsecStatistics", found }.into()),
        }
    }

    /// Filters in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn filters(&mut self, stack: &str, by: &[InFilter]) -> Result<Answer<FilterRecord>, ClientError> {
        self.display(MessageType::GET_IPFLTCURR, stack, by)
    }

    /// Translated remote ports.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn port_translations(
        &mut self,
        stack: &str,
        by: &[InFilter],
    ) -> Result<Answer<PortTranslation>, ClientError> {
        self.display(MessageType::GET_PORTTRAN, stack, by)
    }

    /// Manual tunnels.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn manual_tunnels(
        &mut self,
        stack: &str,
        by: &[InFilter],
    ) -> Result<Answer<ManualRecord>, ClientError> {
        self.display(MessageType::GET_IPTUNMANUAL, stack, by)
    }

    /// Dynamic tunnels as the stack holds them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dynamic_tunnels(
        &mut self,
        stack: &str,
        by: &[InFilter],
    ) -> Result<Answer<DynStackRecord>, ClientError> {
        self.display(MessageType::GET_IPTUNDYNSTACK, stack, by)
    }

    /// Dynamic tunnels as IKE knows them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dynamic_tunnels_ike(
        &mut self,
        stack: &str,
        by: &[InFilter],
    ) -> Result<Answer<DynIkeRecord>, ClientError> {
        self.display(MessageType::GET_IPTUNDYNIKE, stack, by)
    }

    /// IKE tunnels.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ike_tunnels(&mut self, stack: &str, by: &[InFilter]) -> Result<Answer<IkeRecord>, ClientError> {
        self.display(MessageType::GET_IKETUN, stack, by)
    }

    /// IKE tunnels, each with its dynamic tunnels.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ike_tunnels_cascade(
        &mut self,
        stack: &str,
        by: &[InFilter],
    ) -> Result<Answer<IkeRecord>, ClientError> {
        self.display(MessageType::GET_IKETUNCASCADE, stack, by)
    }

    /// Interfaces and their addresses.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn interfaces(&mut self, stack: &str) -> Result<Answer<Interface>, ClientError> {
        self.display(MessageType::GET_IPINTERFACES, stack, &[])
    }

    /// Network security services of all stacks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn nss(&mut self) -> Result<Answer<Nss>, ClientError> {
        self.display(MessageType::GET_IKENSINFO, "", &[])
    }

    /// Drops by reason (project extension); with a blank `stack` what the interface itself refused.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn drops(&mut self, stack: &str) -> Result<Answer<DropCount>, ClientError> {
        self.display(MessageType::GET_DROPS, stack, &[])
    }

    /// Connections by target (project extension).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn distribution(&mut self, stack: &str) -> Result<Answer<Distribution>, ClientError> {
        self.display(MessageType::GET_DISTRIBUTION, stack, &[])
    }

    /// DVIPAs that a stack takes part in (project extension).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn dvipas(&mut self, stack: &str, by: &[InFilter]) -> Result<Answer<DvipaRecord>, ClientError> {
        self.display(MessageType::GET_DVIPA, stack, by)
    }

    /// Targets of those DVIPAs (project extension).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn vipa_targets(&mut self, stack: &str, by: &[InFilter]) -> Result<Answer<VipaTarget>, ClientError> {
        self.display(MessageType::GET_VIPATARGETS, stack, by)
    }

    /// Takeovers that the stack saw, the latest first (project extension).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn takeovers(&mut self, stack: &str, by: &[InFilter]) -> Result<Answer<TakeoverRecord>, ClientError> {
        self.display(MessageType::GET_TAKEOVERS, stack, by)
    }

    /// What the caller may do (project extension).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn authority(&mut self) -> Result<Answer<AuthorityRecord>, ClientError> {
        self.display(MessageType::GET_AUTHORITY, "", &[])
    }

    /// What the filters of a stack would do with a packet (project extension): those that match it, in search order.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn test_packet(
        &mut self,
        stack: &str,
        packet: &TestPacket,
    ) -> Result<Answer<TestRecord>, ClientError> {
        let input = [input_record(self.page, packet)];
        Ok(self.accepted(MessageType::TEST_PACKET, stack, &input)?.parse()?)
    }

    /// A control request on DVIPAs or targets, at least one (project extension). Returns them with their results.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn control_vipa(
        &mut self,
        message_type: MessageType,
        stack: &str,
        objects: &[VipaControl],
    ) -> Result<Vec<VipaControl>, ClientError> {
        let page = self.page;
        let input: Vec<_> = objects.iter().map(|o| input_record(page, o)).collect();
        Ok(self.accepted(message_type, stack, &input)?.parse()?.records)
    }

    /// Defensive filters of a stack; with a blank `stack` the global ones (project extension).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn defensive_filters(
        &mut self,
        stack: &str,
        by: &[InFilter],
    ) -> Result<Answer<DefensiveRecord>, ClientError> {
        self.display(MessageType::GET_DEFENSIVE, stack, by)
    }

    /// A control request on defensive filters of a stack, or with a blank `stack` on global ones (project extension). Returns
    /// them with their results. To delete none is to delete all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn control_defensive(
        &mut self,
        message_type: MessageType,
        stack: &str,
        objects: &[DefensiveControl],
    ) -> Result<Vec<DefensiveControl>, ClientError> {
        let page = self.page;
        let input: Vec<_> = objects.iter().map(|o| input_record(page, o)).collect();
        Ok(self.accepted(message_type, stack, &input)?.parse()?.records)
    }

    /// A control request on these objects, at least one; see [`Self::control_all`]. Returns them with their results.
    ///
    /// # Errors
    /// See [`ClientError`]; no objects at all is refused here.
    pub fn control(
        &mut self,
        message_type: MessageType,
        stack: &str,
        objects: &[Tunnel],
    ) -> Result<Vec<Tunnel>, ClientError> {
        if objects.is_empty() {
            return Err(ClientError::Refused { rc: ReturnCode::EINVAL, rsn: ReasonCode::RECORD_NUM });
        }
        let page = self.page;
        let input: Vec<_> = objects.iter().map(|t| input_record(page, t)).collect();
        Ok(self.accepted(message_type, stack, &input)?.parse()?.records)
    }

    /// A control request on **all** objects of its kind. Returns those that it touched.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn control_all(
        &mut self,
        message_type: MessageType,
        stack: &str,
    ) -> Result<Vec<Tunnel>, ClientError> {
        Ok(self.accepted(message_type, stack, &[])?.parse()?.records)
    }

    /// Puts a filter set in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn load_policy(&mut self, stack: &str, load: &LoadPolicy) -> Result<(), ClientError> {
        let input = [input_record(self.page, load)];
        self.accepted(MessageType::LOAD_POLICY, stack, &input).map(drop)
    }
}
