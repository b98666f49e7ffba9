//! One client: requests in, answers out, in order.
//!
//! The rules are those of nmi.md section 1; a request is judged in the order of section 2.5.

use super::audit::Audit;
use super::counters::{Counters, Reason};
use super::display::{self, Listing, Values};
use super::events::Subscription;
use super::snapshots::Snapshots;
use super::{Backend, Config, authority, control, defense, vipa};
use crate::events::Event;
use crate::request::defense::{DefenseRequest, GLOBAL};
use crate::request::vipa::VipaRequest;
use crate::request::{CoreError, CoreRequest, StackInfo, Want};
use crate::servauth::{Caller, Identities};
use nix::sys::socket::MsgFlags;
use nmi_proto::answer::with_records;
use nmi_proto::check::{Body, Fault, Request};
use nmi_proto::code::{Access, FilterSet, MessageType, ReasonCode, ReturnCode};
use nmi_proto::codec::{Decoder, Frame};
use nmi_proto::control::{Tunnel, VipaControl};
use nmi_proto::display::DefensiveControl;
use nmi_proto::filter::InFilter;
use nmi_proto::header::MessageHeader;
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;
/// Bytes of an answer that are made before they are written.
const WRITE_BYTES: usize = 64 << 10;
/// How long the core may take. Longer than its own patience with a stack, so that it can say so.
const CORE_PATIENCE: Duration = Duration::from_secs(20);

/// Why a session ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With a TERM.
    Term(ReturnCode, ReasonCode),
    /// Without: the client is gone.
    Silent,
    /// Without: the client does not take its answer, and a TERM would stand in the middle of it.
    NotTaken,
}

impl End {
    const CLIENT_LEFT: Self = Self::Term(ReturnCode::OK, ReasonCode::NONE);
    const SHUTDOWN: Self = Self::Term(ReturnCode::OK, ReasonCode::SHUTDOWN);
}

/// What a request was refused with.
type Refusal = (ReturnCode, ReasonCode);

/// What all sessions of a server have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) backend: Backend,
    pub(super) audit: Arc<Audit>,
    pub(super) counters: Arc<Counters>,
    pub(super) snapshots: Arc<Snapshots>,
}

/// A connection and all that belongs to it.
#[derive(Debug)]
pub(super) struct Session {
    stream: UnixStream,
    who: Identities,
    config: Arc<Config>,
    backend: Backend,
    audit: Arc<Audit>,
    counters: Arc<Counters>,
    snapshots: Arc<Snapshots>,
    subscription: Option<Subscription>,
    decoder: Decoder,
    /// Code page of the last request, for TERM.
    page: CodePage,
    /// Part of an answer has been written: a TERM now would stand in the middle of it.
    answering: bool,
}

impl Session {
    pub(super) fn new(stream: UnixStream, who: Identities, shared: Shared) -> Self {
        let Shared { config, backend, audit, counters, snapshots } = shared;
        let page = config.page;
        let decoder = Decoder::new(nmi_proto::MAX_REQUEST_BYTES);
        Self {
            stream,
            who,
            config,
            backend,
            audit,
            counters,
            snapshots,
            subscription: None,
            decoder,
            page,
            answering: false,
        }
    }

    /// Serves the client until one side ends it.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let end = tokio::select! {
            end = self.serve() => end,
            () = shutdown.cancelled() => End::SHUTDOWN,
        };
        tracing::debug!(uid = self.who.uid(), pid = self.who.pid(), ?end, "management session ended");
        let reason = match end {
            End::Term(rc, rsn) => Reason::of_end(rc, rsn),
            End::NotTaken => Some(Reason::AnswerNotTaken),
            End::Silent => None,
        };
        if let Some(reason) = reason {
            self.counters.count(reason);
        }
        if let (End::Term(rc, rsn), false) = (end, self.answering) {
            send_term(&self.stream, self.page, rc, rsn);
        }
    }

    async fn serve(&mut self) -> End {
        if let Err(end) = self.greet().await {
            return end;
        }
        let mut chunk = vec![0; READ_BYTES].into_boxed_slice();
        // When the message that is arriving began to.
        let mut begun: Option<Instant> = None;
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => {
                    begun = None;
                    self.page = frame.page();
                    if let Err(end) = self.handle(&frame).await {
                        return end;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    let fault = Fault::of_stream(error);
                    tracing::debug!(uid = self.who.uid(), %fault, "management client cut off");
                    return End::Term(fault.rc, fault.rsn);
                }
            }
            let partial = self.decoder.is_partial();
            let deadline = partial.then(|| *begun.get_or_insert_with(Instant::now) + self.config.patience);
            // Both are cancel safe: what the one that loses had not yet taken is still there the next time.
            let read = tokio::select! {
                read = self.stream.read(&mut chunk) => read,
                events = next_events(self.subscription.as_mut()) => {
                    if let Err(end) = self.deliver(events).await {
                        return end;
                    }
                    continue;
                }
                () = passed(deadline) => return End::Term(ReturnCode::ETIMEDOUT, ReasonCode::TIMEOUT),
            };
            match read {
                Ok(0) if partial => return End::Term(ReturnCode::EINVAL, ReasonCode::MSG_SIZE),
                Ok(0) => return End::CLIENT_LEFT,
                Ok(n) => self.decoder.push(&chunk[..n]),
                Err(_) => return End::Silent,
            }
        }
    }

    /// Sends INIT, once there is a policy. What the client sends before stays unread (rule 11).
    async fn greet(&mut self) -> Result<(), End> {
        let mut policy = self.backend.policy_loaded.clone();
        if !*policy.borrow_and_update() {
            tokio::select! {
                loaded = policy.wait_for(|loaded| *loaded) => {
                    loaded.map_err(|_| End::SHUTDOWN)?;
                }
                () = gone(&self.stream) => return Err(End::Silent),
            }
        }
        let init = MessageHeader::init(self.config.page, now());
        self.message(&init).await
    }

    /// One request: an answer, or the end.
    async fn handle(&mut self, frame: &Frame) -> Result<(), End> {
        let Ok(header) = MessageHeader::read_lenient(frame.bytes()) else {
            return Err(End::Term(ReturnCode::EINVAL, ReasonCode::BAD_IDENT));
        };
        let answered = match self.evaluate(frame).await {
            Ok(listing) => match self.announce(&header, &listing) {
                Some(head) => return self.answer(head, &listing).await,
                None => Err(internal("answer of more than 4 GiB")),
            },
            Err(error) => Err(error),
        };
        match answered {
            Err(Failure::Fault(fault)) if fault.closes => {
                tracing::debug!(uid = self.who.uid(), %fault, "management client cut off");
                Err(End::Term(fault.rc, fault.rsn))
            }
            Err(failure) => {
                let (rc, rsn) = failure.codes();
                self.counters.count(Reason::of_refusal(rc));
                tracing::debug!(uid = self.who.uid(), request = %header.message_type, %failure, "request refused");
                self.message(&header.answer(now(), rc, rsn)).await
            }
            Ok(()) => Ok(()),
        }
    }

    /// Steps 5 to 16, and what is asked for.
    async fn evaluate(&mut self, frame: &Frame) -> Result<Listing, Failure> {
        let request = Request::check(frame).map_err(Failure::Fault)?;
        let caller = self.authorize(&request).await?;
        let stacks = self.ask(CoreRequest::Stacks).await?;
        let stack = match request.target() {
            None => None,
            Some(name) => Some(find(&stacks, name)?),
        };
        let body = request.body().map_err(Failure::Fault)?;
        let kind = request.message_type();
        let body = match (kind, body) {
            (MessageType::GET_DEFENSIVE, Body::Display(filters)) => {
                let stack = stack.map(|s| s.name.clone());
                let all = self.ask_defense(|reply| DefenseRequest::Display { stack, reply }).await?;
                return Ok(Listing::of_values(kind, Values::Defenses(all), &filters));
            }
            (kind, Body::Defensive(objects)) => {
                let at = stack.map(|s| s.name.clone());
                if at.is_none() {
                    for name in authority::defending(&stacks) {
                        self.permitted(&caller, kind, &authority::control(&self.config.system, name))?;
                    }
                }
                let outcome = self.control_defense(&caller, kind, at.as_deref(), &objects).await;
                let result = outcome.as_ref().map_or_else(ToString::to_string, |all| defense::summary(all));
                let at = at.as_deref().unwrap_or(GLOBAL);
                self.audit.control(&caller, kind, at, objects.len(), &result);
                return outcome.map(Listing::of_defensive_controls);
            }
            (_, body) => body,
        };
        let Some(stack) = stack else {
            return Ok(match (kind, body) {
                (MessageType::SUBSCRIBE, Body::Subscribe(wanted)) => {
                    self.subscribe(None, wanted.kinds, request.header());
                    Listing::empty(kind)
                }
                (MessageType::UNSUBSCRIBE, _) => {
                    self.subscription = None;
                    Listing::empty(kind)
                }
                (MessageType::GET_AUTHORITY, _) => {
                    let profiles = Arc::clone(&self.backend.profiles.borrow());
                    let stacks = stacks.iter().filter(|s| s.active).map(|s| s.name.as_str()).chain([GLOBAL]);
                    Listing::of_authority(authority::of(&self.config.system, &profiles, &caller, stacks))
                }
                (MessageType::GET_DROPS, _) => Listing::of_counters(self.counters.occurred()),
                (_, _) => Listing::of_stacks(kind, stacks.iter().filter(|s| s.active)),
            });
        };
        match body {
            Body::Display(filters) if vipa::is_display(kind) => {
                let stack = stack.name.clone();
                match kind {
                    MessageType::GET_DVIPA => {
                        let all = self.ask_vipa(|reply| VipaRequest::Display { stack, reply }).await?;
                        Ok(Listing::of_values(kind, Values::Dvipas(all), &filters))
                    }
                    MessageType::GET_VIPATARGETS => {
                        let all = self.ask_vipa(|reply| VipaRequest::Targets { stack, reply }).await?;
                        Ok(Listing::of_values(kind, Values::Targets(all), &filters))
                    }
                    _ => {
                        let all = self.ask_vipa(|reply| VipaRequest::History { stack, reply }).await?;
                        Ok(Listing::of_values(kind, Values::Takeovers(all), &filters))
                    }
                }
            }
            Body::Display(filters) => match display::wanted(kind) {
                Some(want) => self.snapshot(kind, &stack.name, want, &filters).await,
                None => Ok(Listing::of_stacks(kind, [stack])),
            },
            Body::Test(packet) => {
                let want = Want::Test(display::test_question(&packet));
                self.snapshot(kind, &stack.name, want, &[]).await
            }
            Body::Control(tunnels) => {
                let outcome = self.control(kind, &stack.name, &tunnels).await;
                let result = outcome.as_ref().map_or_else(ToString::to_string, |all| control::summary(all));
                self.audit.control(&caller, kind, &stack.name, tunnels.len(), &result);
                outcome.map(Listing::of_tunnels)
            }
            Body::Subscribe(wanted) => {
                let stack = stack.name.clone();
                self.subscribe(Some(stack), wanted.kinds, request.header());
                Ok(Listing::empty(kind))
            }
            Body::Vipa(objects) => {
                let outcome = self.control_vipa(kind, &stack.name, &objects).await;
                let result = outcome.as_ref().map_or_else(ToString::to_string, |all| vipa::summary(all));
                self.audit.control(&caller, kind, &stack.name, objects.len(), &result);
                outcome.map(Listing::of_vipa_controls)
            }
            // Answered above: they need no stack.
            Body::Defensive(_) => Err(internal("a request that has been served")),
            Body::LoadPolicy(load) => {
                let (stack, policy) = (stack.name.clone(), load.filter_set == FilterSet::POLICY);
                let outcome = self
                    .ask(|reply| CoreRequest::LoadPolicy { stack: stack.clone(), policy, reply })
                    .await
                    .and_then(|answer| answer.map_err(Failure::Core));
                let result =
                    outcome.as_ref().map_or_else(ToString::to_string, |()| load.filter_set.to_string());
                self.audit.control(&caller, kind, &stack, 1, &result);
                outcome.map(|()| Listing::empty(kind))
            }
        }
    }

    /// What `by` lets through of a snapshot.
    async fn snapshot(
        &self,
        kind: MessageType,
        stack: &str,
        want: Want,
        by: &[InFilter],
    ) -> Result<Listing, Failure> {
        let taken = self.snapshots.take(&self.backend.core, stack, want);
        match timeout(CORE_PATIENCE, taken).await {
            Ok(Some(taken)) => Ok(Listing::of_snapshot(kind, taken?, by)),
            Ok(None) => Err(internal("the core has ended")),
            Err(_) => Err(internal("the core does not answer")),
        }
    }

    /// Step 13: asked for each request, so that a right that was taken away is gone.
    async fn authorize(&self, request: &Request<'_>) -> Result<Caller, Failure> {
        let system = &self.config.system;
        let caller = self.caller().await?;
        let resource = match (request.target(), request.rule().access) {
            (_, Access::Anyone) => return Ok(caller),
            (None, Access::Control) => authority::control(system, GLOBAL),
            (None, Access::Display) if request.message_type() == MessageType::GET_DEFENSIVE => {
                authority::display(system, GLOBAL)
            }
            (None, Access::Display) => authority::daemon(system),
            (Some(stack), Access::Display) => authority::display(system, stack),
            (Some(stack), Access::Control) => authority::control(system, stack),
        };
        self.permitted(&caller, request.message_type(), &resource)?;
        Ok(caller)
    }

    /// Whether the caller may have `resource`; a refusal is told to the audit log.
    fn permitted(&self, caller: &Caller, kind: MessageType, resource: &str) -> Result<(), Failure> {
        let profiles = Arc::clone(&self.backend.profiles.borrow());
        let decision = profiles.decide(resource, caller);
        if !decision.permitted {
            self.audit.refused(caller, kind, resource, decision);
            return Err(Failure::Refused(ReturnCode::EACCES, ReasonCode::NONE));
        }
        Ok(())
    }

    /// Events from now on; the answer goes out before the first, because this session sends both.
    fn subscribe(&mut self, stack: Option<String>, kinds: u32, request: &MessageHeader) {
        let events = self.backend.events.read();
        self.subscription = Some(Subscription::new(events, stack, kinds, request));
    }

    /// Sends what the caller may see of these events. There is no deadline: who does not read loses events, not
    /// his connection.
    async fn deliver(&mut self, events: Option<Vec<Arc<Event>>>) -> Result<(), End> {
        let Some(mut events) = events else {
            self.subscription = None;
            return Ok(());
        };
        let Ok(caller) = self.caller().await else { return Ok(()) };
        let profiles = Arc::clone(&self.backend.profiles.borrow());
        let system = &self.config.system;
        events.retain(|e| {
            let resource = match e.stack.as_str() {
                "" => authority::daemon(system),
                stack => authority::display(system, stack),
            };
            profiles.decide(&resource, &caller).permitted
        });
        let Some(message) = self.subscription.as_mut().and_then(|s| s.message(now(), &events)) else {
            return Ok(());
        };
        self.answering = true;
        self.stream.write_all(&message).await.map_err(|_| End::Silent)?;
        self.answering = false;
        Ok(())
    }

    async fn caller(&self) -> Result<Caller, Failure> {
        self.who.caller().await.map_err(|error| {
            tracing::warn!(uid = self.who.uid(), %error, "user database does not answer: nothing is permitted");
            Failure::Refused(ReturnCode::EACCES, ReasonCode::NONE)
        })
    }

    async fn control(
        &self,
        kind: MessageType,
        stack: &str,
        tunnels: &[Tunnel],
    ) -> Result<Vec<Tunnel>, Failure> {
        let Some(action) = control::action(kind) else {
            return Err(internal("a request that the check should have refused"));
        };
        let (stack, objects) = (stack.to_owned(), tunnels.iter().map(control::object).collect());
        let outcomes = self.ask(|reply| CoreRequest::Control { stack, action, objects, reply }).await??;
        Ok(outcomes.iter().map(control::tunnel).collect())
    }

    /// Orders about DVIPAs, one by one: each is judged by the state that those before it left.
    async fn control_vipa(
        &self,
        kind: MessageType,
        stack: &str,
        objects: &[VipaControl],
    ) -> Result<Vec<VipaControl>, Failure> {
        let mut done = Vec::with_capacity(objects.len());
        for object in objects {
            let order = vipa::order(kind, object)
                .ok_or_else(|| internal("an order that the check should have refused"))?;
            let stack = stack.to_owned();
            let outcomes = self.ask_vipa(|reply| VipaRequest::Control { stack, order, reply }).await;
            let outcomes = outcomes.map(|all| all.iter().map(vipa::outcome).collect());
            collect(&mut done, outcomes, |why| Some(vipa::failed(object, why)))?;
        }
        Ok(done)
    }

    /// Orders about defensive filters, one by one as those about DVIPAs; none: delete all.
    async fn control_defense(
        &self,
        caller: &Caller,
        kind: MessageType,
        stack: Option<&str>,
        objects: &[DefensiveControl],
    ) -> Result<Vec<DefensiveControl>, Failure> {
        let wrong = || internal("an order that the check should have refused");
        let orders = match objects {
            [] => vec![(None, defense::delete_all(kind).ok_or_else(wrong)?)],
            objects => {
                let order = |o: &DefensiveControl| Some((Some(o.clone()), defense::order(kind, o)?));
                objects.iter().map(order).collect::<Option<Vec<_>>>().ok_or_else(wrong)?
            }
        };
        let mut done = Vec::with_capacity(orders.len());
        for (object, order) in orders {
            let (stack, user) = (stack.map(str::to_owned), caller.user.name.clone());
            let outcomes =
                self.ask_defense(|reply| DefenseRequest::Control { stack, user, order, reply }).await;
            let object = object.as_ref();
            let outcomes = outcomes.map(|all| all.iter().map(|o| defense::outcome(object, o)).collect());
            collect(&mut done, outcomes, |why| Some(defense::failed(object?, why)))?;
        }
        Ok(done)
    }

    /// A question about defensive filters.
    async fn ask_defense<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, CoreError>>) -> DefenseRequest,
    ) -> Result<T, Failure> {
        self.ask(|reply| CoreRequest::Defense(question(reply))).await?.map_err(Failure::Core)
    }

    /// A question about DVIPAs.
    async fn ask_vipa<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, CoreError>>) -> VipaRequest,
    ) -> Result<T, Failure> {
        self.ask(|reply| CoreRequest::Vipa(question(reply))).await?.map_err(Failure::Core)
    }

    /// A question to the core.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> CoreRequest) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.backend.core.send(question(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(CORE_PATIENCE, exchange).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(internal("the core has ended")),
            Err(_) => Err(internal("the core does not answer")),
        }
    }

    /// The header of an answer: the length of all its records is known before the first is written.
    fn announce(&self, header: &MessageHeader, listing: &Listing) -> Option<MessageHeader> {
        let length = listing.length(header.page);
        let made = listing.made().unwrap_or_else(now);
        let head = header.answer(made, ReturnCode::OK, ReasonCode::NONE);
        with_records(head, length, listing.number(), listing.total())
    }

    /// Writes an answer piece by piece. No more of it exists at a time than one piece.
    async fn answer(&mut self, head: MessageHeader, listing: &Listing) -> Result<(), End> {
        let deadline = Instant::now() + self.config.patience;
        let mut piece = Vec::with_capacity(WRITE_BYTES);
        piece.extend_from_slice(&head.to_bytes());
        let mut made = 0;
        for index in 0..listing.len() {
            let record = listing.record(index, head.page);
            made += record.len() as u64;
            piece.extend_from_slice(&record);
            if piece.len() >= WRITE_BYTES {
                self.write(&piece, deadline).await?;
                piece.clear();
            }
        }
        debug_assert_eq!(made, u64::from(head.output.length), "records are made the same way twice");
        self.write(&piece, deadline).await?;
        self.answering = false;
        Ok(())
    }

    /// Writes a message without records.
    async fn message(&mut self, header: &MessageHeader) -> Result<(), End> {
        self.write(&header.to_bytes(), Instant::now() + self.config.patience).await?;
        self.answering = false;
        Ok(())
    }

    /// Writes a part of a message, or ends without TERM: the client does not drain what it asked for (rule 13).
    async fn write(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), End> {
        self.answering = true;
        match timeout_at(deadline, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Silent),
            Err(_) => Err(End::NotTaken),
        }
    }
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request is at fault.
    #[error(transparent)]
    Fault(Fault),
    /// Not permitted, or nothing to do it on.
    #[error("{0}, {1}")]
    Refused(ReturnCode, ReasonCode),
    /// The core or a stack is at fault.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl Failure {
    fn codes(&self) -> Refusal {
        match self {
            Self::Fault(fault) => (fault.rc, fault.rsn),
            Self::Refused(rc, rsn) => (*rc, *rsn),
            Self::Core(CoreError::UnknownStack) => (ReturnCode::ENXIO, ReasonCode::NONE),
            Self::Core(CoreError::NotSupported) => (ReturnCode::EOPNOTSUPP, ReasonCode::NONE),
            Self::Core(CoreError::Policy(_)) => (ReturnCode::EIO, ReasonCode::POLICY_LOAD),
            Self::Core(CoreError::StackSilent | CoreError::Internal(_)) => {
                (ReturnCode::EIO, ReasonCode::INTERNAL)
            }
        }
    }
}

/// Adds the outcomes of one object to those before. Where it failed, what was done before is told all the same.
fn collect<T>(
    done: &mut Vec<T>,
    outcomes: Result<Vec<T>, Failure>,
    failed: impl FnOnce(&Failure) -> Option<T>,
) -> Result<(), Failure> {
    match outcomes {
        Ok(outcomes) => done.extend(outcomes),
        Err(why) => match failed(&why).filter(|_| !done.is_empty()) {
            Some(failed) => done.push(failed),
            None => return Err(why),
        },
    }
    Ok(())
}

fn internal(cause: &str) -> Failure {
    tracing::warn!(cause, "a management request failed");
    Failure::Core(CoreError::Internal(cause.to_owned()))
}

/// Step 14: the active stack of a name.
fn find<'a>(stacks: &'a [StackInfo], name: &str) -> Result<&'a StackInfo, Failure> {
    stacks
        .iter()
        .find(|s| s.active && s.name.eq_ignore_ascii_case(name))
        .ok_or(Failure::Core(CoreError::UnknownStack))
}

/// The next events of a subscription; never, if there is none.
async fn next_events(subscription: Option<&mut Subscription>) -> Option<Vec<Arc<Event>>> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// Resolves at a deadline; never, if there is none.
async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Resolves when the peer has closed both directions, without reading from it.
async fn gone(stream: &UnixStream) {
    // A descriptor with readiness of its own: what is cleared here must not be missed by a read later.
    let watch = stream
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| UnixStream::from_std(std::os::unix::net::UnixStream::from(fd)));
    let Ok(watch) = watch else { return std::future::pending().await };
    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    while let Ok(ready) = watch.ready(Interest::READABLE | Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        let _ = watch.try_io(Interest::READABLE, nothing);
        let _ = watch.try_io(Interest::WRITABLE, nothing);
    }
}

/// Says why a connection ends, if the client's buffer has room: nothing waits for that (rule 15).
pub(super) fn send_term(stream: &UnixStream, page: CodePage, rc: ReturnCode, rsn: ReasonCode) {
    let term = MessageHeader::term(page, now(), rc, rsn).to_bytes();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    if let Err(errno) = nix::sys::socket::send(stream.as_raw_fd(), &term, flags) {
        tracing::debug!(%errno, "no TERM sent");
    }
}

fn now() -> Time {
    #[expect(clippy::disallowed_methods, reason = "the clock enters here: time stamps of messages")]
    let now = SystemTime::now();
    Time::from_unix(now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}
