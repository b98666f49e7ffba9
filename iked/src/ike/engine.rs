//! The engine: one per stack. It owns all IKE SAs of the stack's home addresses and is driven by a shell.
//!
//! After any `handle_*` call the shell drains [`Engine::poll_transmit`] and [`Engine::poll_event`] until both are
//! empty and asks [`Engine::poll_timeout`] again.

use super::command::Command;
use super::event::{Event, Transmit};
use super::rules::{Rules, Settings};
use super::types::{IkeTunnelId, TunnelId};
use super::view::{ChildView, EngineCounters, IkeView};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// All IKE SAs of one stack, and what they negotiate.
pub struct Engine {
    settings: Settings,
    rules: Rules,
    rng: Box<dyn rand::CryptoRng + Send>,
    now: Instant,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: EngineCounters,
}

impl Engine {
    /// An engine without SAs. All randomness (SPIs, nonces, private keys, jitter) comes from `rng`.
    #[must_use]
    pub fn new(settings: Settings, rng: impl rand::CryptoRng + Send + 'static, now: Instant) -> Self {
        Self {
            settings,
            rules: Rules::default(),
            rng: Box::new(rng),
            now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: EngineCounters::default(),
        }
    }

    /// Replaces the settings; timers that run keep their deadlines.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Replaces the rules. SAs stay; their next negotiation goes by the new rules.
    pub fn set_rules(&mut self, now: Instant, rules: Rules) {
        self.now = now;
        self.rules = rules;
    }

    /// Takes a datagram that came to `local` from `remote`, the non-ESP marker already removed. `local`'s port is
    /// 500 or 4500.
    pub fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        self.now = now;
        let _ = (local, remote, bytes);
        self.counters.dropped += 1;
    }

    /// Takes a command of the shell. Its outcome comes as events.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.now = now;
        let _ = (command, &self.rules, &self.settings, &mut self.rng);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
    }

    /// The next datagram to send.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event to act upon.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Engine::handle_timeout`] is next due; ask again after any `handle_*` call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// All IKE SAs, by tunnel, the newest SA of a tunnel first.
    #[must_use]
    pub fn ike_tunnels(&self) -> Vec<IkeView> {
        Vec::new()
    }

    /// The newest IKE SA of a tunnel.
    #[must_use]
    pub fn ike_tunnel(&self, id: IkeTunnelId) -> Option<IkeView> {
        self.ike_tunnels().into_iter().find(|view| view.id == id)
    }

    /// All child SAs, by tunnel, the newest SA of a tunnel first.
    #[must_use]
    pub fn children(&self) -> Vec<ChildView> {
        Vec::new()
    }

    /// The newest child SA of a tunnel.
    #[must_use]
    pub fn child(&self, id: TunnelId) -> Option<ChildView> {
        self.children().into_iter().find(|view| view.id == id)
    }

    /// Counters since the engine's start.
    #[must_use]
    pub fn counters(&self) -> EngineCounters {
        self.counters
    }

    /// No IKE SA and nothing left to send: a shutdown is complete.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.transmits.is_empty()
    }
}
