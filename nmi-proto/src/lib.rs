//! nmi-proto
