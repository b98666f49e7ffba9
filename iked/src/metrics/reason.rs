//! Why negotiations fail, as a small number of names.
//!
//! The engine says it in a sentence for people; a label of a metric must not grow with what peers send. A sentence is
//! classed by the notify of RFC 7296 section 3.10.1 that it names, or by what it says of the peer.

/// A class, and what sentences of it contain. The first that fits counts.
const CLASSES: [(&str, &[&str]); 8] = [
    ("timeout", &["does not answer"]),
    (
        "authentication",
        &["AUTHENTICATION_FAILED", "did not prove", "shared key", "wants EAP", "lacks the peer's identity"],
    ),
    ("no_rule", &["no KeyExchangeRule", "no IpFilterRule", "no rule ", "has no usable", "expects"]),
    ("traffic_selectors", &["TS_UNACCEPTABLE", "SINGLE_PAIR_REQUIRED", "selector"]),
    ("no_proposal", &["NO_PROPOSAL_CHOSEN", "INVALID_KE_PAYLOAD", "peer offers", "does not allow"]),
    (
        "refused",
        &["NO_ADDITIONAL_SAS", "TEMPORARY_FAILURE", "CHILD_SA_NOT_FOUND", "INVALID_SPI", "peer answers"],
    ),
    ("deactivated", &["deactivated", "deleted", "shut down"]),
    ("invalid_message", &["INVALID_SYNTAX", "lacks a payload", "taken apart", "too long"]),
];

/// What does not fit any class.
const OTHER: &str = "other";

/// The class of a sentence.
pub(super) fn class(sentence: &str) -> &'static str {
    let fits = |words: &[&str]| words.iter().any(|w| sentence.contains(w));
    CLASSES.iter().find(|(_, words)| fits(words)).map_or(OTHER, |(name, _)| name)
}

/// All classes.
pub(super) fn classes() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().map(|(name, _)| *name).chain([OTHER])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_the_engine_fall_into_their_classes() {
        for (sentence, wanted) in [
            ("peer does not answer IKE_SA_INIT", "timeout"),
            ("peer 192.0.2.1:500 does not answer IKE_AUTH", "timeout"),
            ("peer answers AUTHENTICATION_FAILED to IKE_AUTH (rule R, our identity x)", "authentication"),
            (
                "a.example did not prove its identity: the shared key of rule R is another one",
                "authentication",
            ),
            ("no KeyExchangeRule for peer 192.0.2.1", "no_rule"),
            (
                "peer answers TS_UNACCEPTABLE to CREATE_CHILD_SA; rule R offers ESP:AES for x",
                "traffic_selectors",
            ),
            ("peer answers NO_PROPOSAL_CHOSEN to IKE_AUTH; rule R offers ESP:AES for x", "no_proposal"),
            ("peer offers AES-CBC-128/X; rule R allows AES-GCM", "no_proposal"),
            ("peer answers NO_ADDITIONAL_SAS to CREATE_CHILD_SA; rule R offers", "refused"),
            ("deactivated", "deactivated"),
            ("whatever else", OTHER),
        ] {
            assert_eq!(class(sentence), wanted, "{sentence}");
        }
    }
}
