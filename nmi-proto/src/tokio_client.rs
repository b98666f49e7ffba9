//! A client for tokio (feature `tokio`): the same requests and errors as the [blocking one](crate::client), without a thread
//! for each connection.
//!
//! ```no_run
//! # async fn f() -> Result<(), nmi_proto::client::ClientError> {
//! use nmi_proto::code::MessageType;
//! use nmi_proto::display::IkeRecord;
//! use nmi_proto::tokio_client::Client;
//! use std::time::Duration;
//!
//! let mut nmi = Client::connect(nmi_proto::SOCKET_PATH, Some(Duration::from_secs(10))).await?;
//! for stack in nmi.stacks().await?.records {
//!     let name = stack.stack.name.as_str();
//!     let tunnels = nmi.display::<IkeRecord>(MessageType::GET_IKETUN, name, &[]).await?;
//!     println!("{name}: {} IKE tunnels", tunnels.records.len());
//! }
//! // Events of all stacks that the caller may display, of every kind.
//! nmi.subscribe("", 0).await?;
//! while let Some(event) = nmi.next_event(None).await? {
//!     println!("{} {:?} {}", event.sequence, event.kind, event.stack);
//! }
//! # Ok(()) }
//! ```

use crate::answer::{Answer, Message, input_record, request};
use crate::client::{ClientError, EventQueue};
use crate::code::MessageType;
use crate::codec::Decoder;
use crate::control::{Subscription, Tunnel};
use crate::display::{Event, Record, StackRecord, Statistics};
use crate::error::DecodeError;
use crate::filter::InFilter;
use crate::text::CodePage;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// A connection to the daemon.
///
/// A call that is dropped before its end leaves the connection in the middle of an exchange: drop the client too. Only
/// [`Self::next_event`] may be dropped at any time.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    page: CodePage,
    version: u16,
    correlator: u64,
    events: EventQueue,
    patience: Option<Duration>,
    chunk: Box<[u8]>,
}

impl Client {
    /// Connects and waits for INIT, at most `patience`, which also holds for each later answer. `None`: for ever.
    ///
    /// # Errors
    /// No daemon, no INIT, or a TERM in its place (too many clients).
    pub async fn connect(path: impl AsRef<Path>, patience: Option<Duration>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ClientError::Connect { path: path.display().to_string(), source })?;
        let mut client = Self {
            stream,
            decoder: Decoder::new(crate::MAX_ANSWER_BYTES),
            page: CodePage::Ascii,
            version: 0,
            correlator: 0,
            events: EventQueue::default(),
            patience,
            chunk: vec![0; CHUNK].into_boxed_slice(),
        };
        let init = within(patience, client.receive()).await.map_err(|e| match e {
            ClientError::Timeout => ClientError::NotReady,
            other => other,
        })?;
        let header = &init.header;
        if header.message_type != MessageType::INIT {
            return Err(ClientError::Unexpected {
                found: header.message_type,
                correlator: header.correlator,
            });
        }
        (client.page, client.version) = (header.page, header.version);
        Ok(client)
    }

    /// Code page of the requests from here on; at first that of INIT.
    pub const fn set_page(&mut self, page: CodePage) {
        self.page = page;
    }

    /// Highest interface version that the daemon supports.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The next message; a TERM is an error. Nothing is lost if this is dropped while it waits.
    async fn receive(&mut self) -> Result<Message, ClientError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                let message = Message::read(frame)?;
                if message.header.message_type == MessageType::TERM {
                    let (rc, rsn) = (message.header.return_code, message.header.reason_code);
                    return Err(ClientError::Terminated { rc, rsn });
                }
                return Ok(message);
            }
            match self.stream.read(&mut self.chunk).await? {
                0 => return Err(ClientError::Closed),
                n => self.decoder.push(&self.chunk[..n]),
            }
        }
    }

    /// Sends a request of whole input records and returns the answer, refused or not.
    ///
    /// # Errors
    /// The connection, or an answer that is not the one to this request.
    pub async fn exchange(
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
        let correlator = self.correlator.to_be_bytes();
        let answer = within(self.patience, async {
            // A daemon that has just closed says why in a TERM that is still to be read.
            let sent = self.stream.write_all(&bytes).await;
            loop {
                let message = match (self.receive().await, &sent) {
                    (Err(ClientError::Closed | ClientError::Io(_)), Err(e)) => {
                        return Err(ClientError::Io(e.kind().into()));
                    }
                    (message, _) => message?,
                };
                if message.header.message_type != MessageType::EVENT {
                    return Ok(message);
                }
                self.events.keep(&message)?;
            }
        })
        .await?;
        let header = &answer.header;
        if header.message_type != message_type || header.correlator != correlator {
            return Err(ClientError::Unexpected {
                found: header.message_type,
                correlator: header.correlator,
            });
        }
        Ok(answer)
    }

    async fn accepted(
        &mut self,
        ty: MessageType,
        target: &str,
        input: &[Vec<u8>],
    ) -> Result<Message, ClientError> {
        let answer = self.exchange(ty, target, input).await?;
        match answer.refusal() {
            Some((rc, rsn)) => Err(ClientError::Refused { rc, rsn }),
            None => Ok(answer),
        }
    }

    /// A display request. `target` is blank for requests without one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn display<R: Record>(
        &mut self,
        message_type: MessageType,
        target: &str,
        filters: &[InFilter],
    ) -> Result<Answer<R>, ClientError> {
        debug_assert!(R::TYPES.contains(&message_type), "{message_type} has other records");
        let input: Vec<_> = filters.iter().map(|f| input_record(self.page, f)).collect();
        Ok(self.accepted(message_type, target, &input).await?.parse()?)
    }

    /// All active stacks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stacks(&mut self) -> Result<Answer<StackRecord>, ClientError> {
        self.display(MessageType::GET_STACKINFO, "", &[]).await
    }

    /// Counters of a stack.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn summary(&mut self, stack: &str) -> Result<Statistics, ClientError> {
        let mut answer = self.display(MessageType::GET_SUMMARY, stack, &[]).await?;
        let found = answer.records.len();
        match (answer.records.pop(), found) {
            (Some(one), 1) => Ok(one),
            _ => Err(DecodeError::SectionCount { what: "NMsecStatistics", found }.into()),
        }
    }

    /// A control request on these objects; none: on all of that kind.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn control(
        &mut self,
        message_type: MessageType,
        stack: &str,
        objects: &[Tunnel],
    ) -> Result<Vec<Tunnel>, ClientError> {
        let input: Vec<_> = objects.iter().map(|t| input_record(self.page, t)).collect();
        Ok(self.accepted(message_type, stack, &input).await?.parse()?.records)
    }

    /// Asks for events: see [`crate::client::Client::subscribe`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn subscribe(&mut self, stack: &str, kinds: u32) -> Result<(), ClientError> {
        let input = [input_record(self.page, &Subscription { kinds })];
        self.accepted(MessageType::SUBSCRIBE, stack, &input).await.map(drop)
    }

    /// Ends the subscription. Events that came before can still be taken.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn unsubscribe(&mut self) -> Result<(), ClientError> {
        self.accepted(MessageType::UNSUBSCRIBE, "", &[]).await.map(drop)
    }

    /// The next event, however long it takes, or `None` if none comes within `patience`. Nothing is lost if this is
    /// dropped while it waits.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next_event(&mut self, patience: Option<Duration>) -> Result<Option<Event>, ClientError> {
        if let Some(event) = self.events.take() {
            return Ok(Some(event));
        }
        match within(patience, self.receive()).await {
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
}

/// `work`, or a timeout.
async fn within<T>(
    patience: Option<Duration>,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match patience {
        None => work.await,
        Some(patience) => timeout(patience, work).await.unwrap_or(Err(ClientError::Timeout)),
    }
}
