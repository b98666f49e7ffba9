//! The descriptors of a configuration.

use super::{Raw, TOKEN_GRE_UDP, TOKEN_RAW, TOKEN_TUN, TOKEN_XCF, Worker};
use crate::control::StackConfig;
use crate::driver::gre_udp::GreUdp;
use crate::driver::poll::Poller;
use crate::driver::raw::{Family, RawProtocol, RawSocket};
use crate::driver::tun::Tun;
use crate::driver::udp::UdpSocket;
use crate::driver::{IKE_PORT, NAT_T_PORT};
use crate::engine::Links;
use crate::listeners;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

impl Worker {
    /// Opens what is new before it closes what is old, so that a failure leaves everything as it was.
    pub(super) fn configure(
        &mut self,
        now: Instant,
        poller: &Poller,
        config: &StackConfig,
        links: Links,
        tun: Option<Tun>,
        rebind_xcf: bool,
    ) -> Result<(), String> {
        let failed = |e: nix::errno::Errno| format!("a descriptor cannot be waited for ({e})");
        // Kept whatever becomes of the rest: the routes lead into it already.
        if let Some(tun) = tun {
            poller.add(&tun, TOKEN_TUN).map_err(failed)?;
            self.tun = Some(tun);
        }
        let remarked = self.mark != config.mark;
        let mut opened = Vec::new();
        for home in &config.home {
            for port in [IKE_PORT, NAT_T_PORT] {
                let local = SocketAddr::new(home.address, port);
                if remarked {
                    // Two sockets cannot have one port: the old one has to go first.
                    self.udp.remove(&local);
                }
                if !self.udp.contains_key(&local) {
                    opened.push(UdpSocket::bind(local, config.mark).map_err(|e| {
                        format!("UDP {local} cannot be bound ({e}): is another IKE daemon running?")
                    })?);
                }
            }
        }
        let raw = if remarked || self.raw.is_empty() { Some(open_raw(config.mark)?) } else { None };
        let in_udp = config.xcf.is_some() && config.sysplex.as_ref().is_some_and(|s| s.gre_in_udp);
        let unchanged = self.xcf.as_ref().map(|(x, _)| x) == config.xcf.as_ref()
            && self.gre_udp.is_some() == in_udp
            && !rebind_xcf
            && !remarked;
        let xcf = match &config.xcf {
            Some(x) if !unchanged => Some(
                RawSocket::open(Family::of(x.address), RawProtocol::Gre, Some(&x.interface), config.mark)
                    .map_err(|e| format!("no GRE socket on the XCF interface {} ({e})", x.interface))?,
            ),
            _ => None,
        };
        let gre_udp = match &config.xcf {
            Some(x) if !unchanged && in_udp => {
                // Two sockets cannot have one port: the old one has to go first.
                self.gre_udp = None;
                let bound = GreUdp::bind(x.address, &x.interface, config.mark);
                Some(bound.map_err(|e| format!("no socket for GRE in UDP on {} ({e})", x.interface))?)
            }
            _ => None,
        };
        if let Some(raw) = raw {
            self.raw = raw;
            for (r, token) in self.raw.iter().zip(TOKEN_RAW..) {
                poller.add(&r.socket, token).map_err(failed)?;
            }
        }
        if !unchanged {
            self.xcf = config.xcf.clone().zip(xcf);
            if let Some((_, socket)) = &self.xcf {
                poller.add(socket, TOKEN_XCF).map_err(failed)?;
            }
            self.gre_udp = gre_udp;
            if let Some(socket) = &self.gre_udp {
                poller.add(socket, TOKEN_GRE_UDP).map_err(failed)?;
            }
        }
        for socket in opened {
            poller.add(&socket, self.next_token).map_err(failed)?;
            self.udp_tokens.insert(self.next_token, socket.local());
            self.next_token += 1;
            self.udp.insert(socket.local(), socket);
        }
        self.udp.retain(|local, _| config.home.iter().any(|h| h.address == local.ip()));
        self.udp_tokens.retain(|_, local| self.udp.contains_key(local));
        self.mark = config.mark;
        let first = !self.engine.configured();
        self.engine.configure(now, config, links);
        if first {
            // Applications may have gone on while the stack was restarted.
            let homes: Vec<IpAddr> = config.home.iter().map(|h| h.address).collect();
            match listeners::open_connections(&homes) {
                Ok(open) => self.engine.found_open(now, &open),
                Err(error) => tracing::warn!(%error, "connections that were open before are not known"),
            }
        }
        Ok(())
    }
}

/// ESP of both families; a kernel without IPv6 has none of that family.
fn open_raw(mark: u32) -> Result<Vec<Raw>, String> {
    let mut sockets = Vec::new();
    for family in Family::BOTH {
        let protocol = RawProtocol::Esp;
        match RawSocket::open(family, protocol, None, mark) {
            Ok(socket) => sockets.push(Raw { family, protocol, socket }),
            Err(nix::errno::Errno::EAFNOSUPPORT) if family == Family::V6 => {}
            Err(e) => return Err(format!("no raw socket for {protocol:?} ({e}): CAP_NET_RAW is needed")),
        }
    }
    Ok(sockets)
}
