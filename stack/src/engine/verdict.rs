//! Why a packet was dropped: one closed list for the whole engine (threats R2: no counter, no drop).
//!
//! The names are stable: `Question::Drops`, metrics, reports and `docs/datapath.md` use them. A new reason goes to
//! the end of its group; a name never changes its meaning.

use crate::counters::reasons;

reasons! {
    /// Why a packet was dropped. [`DropReason::name`] is what users see.
    pub enum DropReason {
        // Protected traffic from the network.
        /// ESP or AH with an SPI that no SA of this stack has (T33).
        UnknownSpi => "unknown_spi",
        /// ESP with an SPI of 0 to 255, which no SA may have (RFC 4303 section 2.1, T33).
        ReservedSpi => "reserved_spi",
        /// Sequence number seen before or left of the replay window (T34).
        Replay => "replay",
        /// The integrity check failed (T25).
        AuthenticationFailed => "authentication_failed",
        /// ESP cut short, or wrong padding behind a good integrity check (T25, T35).
        MalformedEsp => "malformed_esp",
        /// AH whose length or ICV cannot be, or behind headers that it cannot protect (RFC 4302 section 3.3.3.1, T35, T37).
        MalformedAh => "malformed_ah",
        /// A dummy packet, next header 59 (RFC 4303 section 2.6, T35).
        Dummy => "dummy",
        /// The inner packet lies outside the negotiated traffic selectors (T36).
        SelectorViolation => "selector_violation",
        /// The inner packet belongs to a dynamic filter of another tunnel than the one that opened it.
        TunnelMismatch => "tunnel_mismatch",
        /// Opened by an SA, but the filters want it in clear (T38).
        ProtectedButClearRequired => "protected_but_clear_required",
        /// In clear, but the filters want it protected (T38).
        ClearButIpsecRequired => "clear_but_ipsec_required",
        /// The SA is past its hard lifetime in bytes, or out of sequence numbers.
        SaExpired => "sa_expired",
        /// ESP arrived from another UDP port or address, or without UDP, than the SA was negotiated for (T40).
        WrongEncapsulation => "wrong_encapsulation",
        /// A NAT keepalive (RFC 3948 section 2.3); counted, nothing to do (T01).
        Keepalive => "keepalive",
        /// A datagram on the IKE ports that is neither IKE, ESP nor keepalive (T01, T40).
        MalformedUdp => "malformed_udp",
        /// The network marked congestion on the outer header of a packet whose transport does not know ECN (RFC 6040
        /// section 4.2): dropping is how it hears of it.
        CongestionUnheard => "congestion_unheard",
        /// ESP on an SA that goes on from an earlier owner of which nobody knows what it had accepted (T26): the peer's next
        /// SA is open.
        ContinuedInboundClosed => "continued_inbound_closed",
        /// Another client behind the same NAT has the port, and no port is free to translate it to (RFC 3948 section 5.2).
        NatPortTaken => "nat_port_taken",
        /// Flows of clients behind NATs are resolved in too large a number, in all or by this tunnel.
        NatTableFull => "nat_table_full",

        // Filters.
        /// A rule says deny.
        FilterDeny => "filter_deny",
        /// No rule matched (SYSDEFAULTDENYRULE).
        ImplicitDeny => "implicit_deny",
        /// A defensive filter blocks it.
        DefensiveBlock => "defensive_block",

        // Outbound protection.
        /// An outbound packet needs an SA, there is none and the rule does not negotiate on demand.
        NoSa => "no_sa",
        /// An SA is being negotiated and too many packets wait already.
        AcquireQueueFull => "acquire_queue_full",
        /// Waited for an SA whose negotiation failed.
        AcquireFailed => "acquire_failed",
        /// Waited for an SA that did not come in time.
        AcquireTimeout => "acquire_timeout",
        /// Does not fit the path after encapsulation and may not be fragmented (answered with ICMP, T46).
        TooBig => "too_big",
        /// The next sequence number lies above the ceiling that the coupling facility holds (T26).
        CeilingReached => "ceiling_reached",

        // Packets as such.
        /// Not an IP packet that RFC 791 or RFC 8200 allow (T37).
        MalformedPacket => "malformed_packet",
        /// Source or destination that cannot be (loopback, multicast source, unspecified; T37).
        Martian => "martian",
        /// An own address as source came from outside (T37).
        ForgedFromHome => "forged_from_home",
        /// Too many layers of encapsulation (T37).
        Nesting => "nesting",
        /// A fragment with a nonsensical offset, length or overlap (T39).
        ReassemblyBadFragment => "reassembly_bad_fragment",
        /// A fragment that found no room (T39).
        ReassemblyFull => "reassembly_full",
        /// A fragment whose datagram was not completed in time (T39).
        ReassemblyTimeout => "reassembly_timeout",
        /// An ICMP error about IKE or ESP of ours that says nothing of use, or quotes no SA that we have (T39).
        IcmpUnrelated => "icmp_unrelated",
        /// A report of a smaller path for an SA of ours: taken note of, nobody else needs it.
        IcmpConsumed => "icmp_consumed",

        // GRE and XCF (T41 to T43).
        /// GRE to the own XCF address that did not arrive on the XCF link.
        GreNotXcf => "gre_not_xcf",
        /// Outer source is no current member, or is this stack itself.
        GreBadSource => "gre_bad_source",
        /// Outer destination is not the own XCF address.
        GreBadDestination => "gre_bad_destination",
        /// GRE header cut short.
        GreTruncated => "gre_truncated",
        /// Protocol type is neither IPv4 nor IPv6, or does not fit the inner packet.
        GreBadProtocol => "gre_bad_protocol",
        /// Version, routing, checksum or sequence bits, or reserved bits set.
        GreBadFlags => "gre_bad_flags",
        /// Undefined bits of the key are set, or a segment size that cannot be.
        GreBadKey => "gre_bad_key",
        /// GRE inside of GRE.
        GreInGre => "gre_in_gre",
        /// Neither inner address is a DVIPA in a role that fits.
        GreNotDvipa => "gre_not_dvipa",
        /// From a target, about a flow that this stack does not know, and no opening of one.
        GreUnknownFlow => "gre_unknown_flow",
        /// From a target, about a flow that belongs to another one.
        GreNotOwner => "gre_not_owner",
        /// A target's answer that the filters would send in clear (never, design.md).
        GreClearOutbound => "gre_clear_outbound",

        // Connections.
        /// The connection table is full and holds nothing that may be evicted (T44).
        ConnectionTableFull => "connection_table_full",
        /// A packet of a DVIPA that nobody owns at the moment, or that this stack is only backup for.
        NoDistributor => "no_distributor",
        /// A new connection to a distributed port, and no target can have it; TCP is answered with RST (T45).
        NoTarget => "no_target",
        /// Would have to wait for a takeover to go on, and too much waits already (T51).
        HoldFull => "hold_full",
        /// Waited for a takeover that did not go on in time (T51).
        HoldTimeout => "hold_timeout",
        /// For or from a DVIPA whose ownership this stack cannot prove any more (T47).
        LeaseEnded => "lease_ended",
    }
}

impl DropReason {
    /// Reasons that happen in good order and are only counted.
    #[must_use]
    pub const fn is_quiet(self) -> bool {
        matches!(self, Self::Keepalive | Self::Dummy | Self::IcmpConsumed)
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_snake_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()))
        );
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(all, names.len());
    }

    #[test]
    fn every_name_is_documented_and_nothing_else() {
        let doc = include_str!("../../../docs/datapath.md");
        let table = doc.split("## Reasons").nth(1).unwrap();
        // The first table is the engine's, others follow.
        let rows = table.lines().skip_while(|l| !l.starts_with("| `")).map_while(|l| l.strip_prefix("| `"));
        let documented: Vec<&str> = rows.filter_map(|l| l.split('`').next()).collect();
        let names: Vec<&str> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(documented, names);
    }

    #[test]
    fn numbers_index_the_list() {
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
        }
    }
}
