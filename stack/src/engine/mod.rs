//! The packet engine: pure, driven in batches.
//!
//! The driver calls one `handle_…` for each piece that it read, always with the same [`Output`], then
//! [`Engine::flush`] once, then carries out and clears the [`Output`]. Time only enters as an argument.
pub mod acquire;
pub mod coalesce;
pub mod connection;
pub mod distribute;
pub mod esp;
pub mod filter;
pub mod icmp;
pub mod io;
pub mod log;
pub mod pmtu;
pub mod reassemble;
pub mod replay;
pub mod sad;
pub mod segment;
pub mod spd;
pub mod udp_encap;
pub mod verdict;

use crate::control::{Answer, FilterSet, Question, SaPair, StackConfig};
use crate::counters::DropCounters;
use io::{Output, RawArrival, UdpArrival, VnetHeader};
use std::net::IpAddr;
use std::time::Instant;

/// What the driver knows about its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// MTU of the interface to the network, octets.
    pub network_mtu: u16,
    /// MTU of the XCF link, octets; up to 65,535.
    pub xcf_mtu: u32,
}

/// Why an SA pair was not installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The keying material does not fit the algorithms.
    #[error("SPI {spi_in:#010x}: keying material does not fit its suite")]
    Key {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
}

/// One stack's packet engine.
#[derive(Debug)]
pub struct Engine {
    #[expect(dead_code, reason = "seeds the tables that follow in the next commits")]
    seed: u64,
    drops: DropCounters,
    config: Option<StackConfig>,
    filter_epoch: u64,
}

#[expect(unused_variables, reason = "signatures for the driver; bodies follow")]
impl Engine {
    /// An engine without configuration: drops everything. `seed` keys its hash tables.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drops: DropCounters::default(), config: None, filter_epoch: 0 }
    }
    /// Puts a configuration in force; connections of addresses that stay are kept.
    pub fn configure(&mut self, now: Instant, config: &StackConfig, links: Links) {
        self.config = Some(config.clone());
    }
    /// Replaces the filter table; SAs and their dynamic filters stay. `unix_secs` is shown as creation time.
    pub fn set_filters(&mut self, now: Instant, unix_secs: u64, set: FilterSet) {
        self.filter_epoch = set.epoch;
    }
    /// Installs an SA pair and its dynamic filter.
    ///
    /// # Errors
    /// When the pair cannot be used; nothing is changed then.
    pub fn install_sa(&mut self, now: Instant, unix_secs: u64, pair: SaPair) -> Result<(), InstallError> {
        Ok(())
    }
    /// Makes the outbound half of a pair the one in use.
    pub fn activate_outbound(&mut self, spi_in: u32) {}
    /// Removes a pair and, with the last one of its tunnel, the dynamic filter.
    pub fn remove_sa(&mut self, spi_in: u32) {}
    /// Removes every pair.
    pub fn remove_all_sas(&mut self) {}
    /// The negotiation of `id` failed: what waited for it is dropped and counted.
    pub fn acquire_failed(&mut self, id: u64, out: &mut Output) {}
    /// Datagrams of ports 500 and 4500, as UDP_GRO gave them.
    pub fn handle_udp(&mut self, now: Instant, arrival: UdpArrival, buffer: &mut [u8], out: &mut Output) {}
    /// IP protocol 50, from the ESP header on.
    pub fn handle_esp(&mut self, now: Instant, arrival: RawArrival, packet: &mut [u8], out: &mut Output) {}
    /// A packet from the TUN, maybe a super-packet.
    pub fn handle_host(&mut self, now: Instant, header: VnetHeader, packet: &mut [u8], out: &mut Output) {}
    /// GRE that arrived on the XCF interface, from the GRE header on.
    pub fn handle_xcf(&mut self, now: Instant, arrival: RawArrival, packet: &mut [u8], out: &mut Output) {}
    /// The driver learnt (EMSGSIZE) that packets to `remote` must not be longer than `mtu`.
    pub fn path_mtu(&mut self, now: Instant, remote: IpAddr, mtu: u16) {}
    /// End of a batch: what was collected to be sent as one goes out.
    pub fn flush(&mut self, now: Instant, out: &mut Output) {}
    /// To be called when [`Engine::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Output) {}
    /// When [`Engine::handle_timeout`] wants to be called; `None`: nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// Answers a question; `None` for those that the driver answers (`Interfaces`).
    #[must_use]
    pub fn answer(&self, now: Instant, question: Question) -> Option<Answer> {
        match question {
            Question::Drops => Some(Answer::Drops(self.drops.view())),
            _ => None,
        }
    }
    /// Inbound SPIs of the installed pairs, for `Hello`.
    #[must_use]
    pub fn installed_spis(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Epoch of the filter table in force, 0 if none, for `Hello`.
    #[must_use]
    pub fn filter_epoch(&self) -> u64 {
        self.filter_epoch
    }
    /// Whether a configuration is in force, for `Hello`.
    #[must_use]
    pub fn configured(&self) -> bool {
        self.config.is_some()
    }
}
