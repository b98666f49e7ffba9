//! The payloads of a message by what they are, so that an exchange can ask for those it needs.

use crate::ike::wire::payload::{Auth, Delete, Id, Ke, Nonce, Notify, Sa, Ts};
use crate::ike::wire::{CertEncoding, Message, NotifyType, Payload};

/// The payloads of a message.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Found<'m> {
    /// Security Association.
    pub(crate) sa: Option<&'m Sa>,
    /// Key Exchange.
    pub(crate) ke: Option<&'m Ke>,
    /// Nonce.
    pub(crate) nonce: Option<&'m Nonce>,
    /// Identification of the initiator.
    pub(crate) id_i: Option<&'m Id>,
    /// Identification of the responder.
    pub(crate) id_r: Option<&'m Id>,
    /// Authentication.
    pub(crate) auth: Option<&'m Auth>,
    /// Traffic selectors of the initiator.
    pub(crate) ts_i: Option<&'m Ts>,
    /// Traffic selectors of the responder.
    pub(crate) ts_r: Option<&'m Ts>,
    payloads: &'m [Payload],
}

impl<'m> Found<'m> {
    /// Of a message. Payloads that no exchange of ours takes are left out.
    pub(crate) fn in_message(message: &'m Message) -> Self {
        let mut found = Self { payloads: &message.payloads, ..Self::default() };
        for payload in &message.payloads {
            match payload {
                Payload::Sa(sa) => found.sa = Some(sa),
                Payload::Ke(ke) => found.ke = Some(ke),
                Payload::Nonce(nonce) => found.nonce = Some(nonce),
                Payload::IdInitiator(id) => found.id_i = Some(id),
                Payload::IdResponder(id) => found.id_r = Some(id),
                Payload::Auth(auth) => found.auth = Some(auth),
                Payload::TsInitiator(ts) => found.ts_i = Some(ts),
                Payload::TsResponder(ts) => found.ts_r = Some(ts),
                Payload::Notify(_)
                | Payload::Delete(_)
                | Payload::Cert(_)
                | Payload::CertReq(_)
                | Payload::Vendor(_)
                | Payload::Config(_)
                | Payload::Unknown(_) => {}
            }
        }
        found
    }

    /// All notifications.
    pub(crate) fn notifies(&self) -> impl Iterator<Item = &'m Notify> {
        self.payloads.iter().filter_map(|payload| match payload {
            Payload::Notify(notify) => Some(notify),
            _ => None,
        })
    }

    /// The first notification of a kind.
    pub(crate) fn notify(&self, kind: NotifyType) -> Option<&'m Notify> {
        self.notifies().find(|notify| notify.kind == kind)
    }

    /// Whether there is a notification of a kind.
    pub(crate) fn has(&self, kind: NotifyType) -> bool {
        self.notify(kind).is_some()
    }

    /// The first notification of an error.
    pub(crate) fn error(&self) -> Option<&'m Notify> {
        self.notifies().find(|notify| notify.kind.is_error())
    }

    /// X.509 certificates, the sender's own first (RFC 7296 section 3.6).
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &'m [u8]> {
        self.payloads.iter().filter_map(|payload| match payload {
            Payload::Cert(cert) if cert.encoding == CertEncoding::X509_SIGNATURE => {
                Some(cert.data.as_slice())
            }
            _ => None,
        })
    }

    /// For a reason: whether there are certificates that are not taken. What a peer gives a URL of is never fetched.
    pub(crate) fn other_certificates(&self) -> &'static str {
        match self.payloads.iter().any(|payload| matches!(payload, Payload::Cert(_))) {
            true => " of an encoding that is taken: X.509 certificates themselves, no URLs",
            false => "",
        }
    }

    /// All Delete payloads.
    pub(crate) fn deletes(&self) -> impl Iterator<Item = &'m Delete> {
        self.payloads.iter().filter_map(|payload| match payload {
            Payload::Delete(delete) => Some(delete),
            _ => None,
        })
    }
}
