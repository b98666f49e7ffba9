/*
 * The structures and values of the management interface of iked: see docs/nmi.md.
 *
 * Made from the tables of the crate nmi-proto by `UPDATE_DOCS=1 cargo test -p nmi-proto --test c_header`; do not edit.
 *
 * All members are bytes or arrays of bytes, so every structure has alignment 1 and no padding, and may be laid over
 * received bytes at any place. (An 8-byte counter need not lie on a multiple of 8.) Integers are big-endian: read
 * them with nmsec_u16, nmsec_u32 and nmsec_u64, write them with nmsec_put_u16 and nmsec_put_u32. Text is padded
 * with blanks and has no NUL. A flag is read with NMSEC_BIT(pointer to the structure, name of the flag).
 *
 * The numbers in the comments are offsets. Sections may be longer than these structures: go by the descriptors
 * (docs/nmi.md, section 2.3, rule 4), not by sizeof. C11 or C++11.
 */
#ifndef NMSEC_H
#define NMSEC_H

#include <stdint.h>

#ifdef __cplusplus
#define NMSEC_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type " has padding")
#else
#define NMSEC_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has padding")
#endif

static inline uint16_t nmsec_u16(const uint8_t *at)
{
    return (uint16_t)((uint16_t)(at[0] << 8) | at[1]);
}

static inline uint32_t nmsec_u32(const uint8_t *at)
{
    return ((uint32_t)at[0] << 24) | ((uint32_t)at[1] << 16) | ((uint32_t)at[2] << 8) | at[3];
}

static inline uint64_t nmsec_u64(const uint8_t *at)
{
    return ((uint64_t)nmsec_u32(at) << 32) | nmsec_u32(at + 4);
}

static inline void nmsec_put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void nmsec_put_u32(uint8_t *at, uint32_t value)
{
    nmsec_put_u16(at, (uint16_t)(value >> 16));
    nmsec_put_u16(at + 2, (uint16_t)value);
}

#define NMSEC_BIT(structure, flag) ((((const uint8_t *)(structure))[flag##_BYTE] & flag##_MASK) != 0)
#define NMSEC_SET_BIT(structure, flag) ((void)(((uint8_t *)(structure))[flag##_BYTE] |= flag##_MASK))

#define NMSEC_SOCKET_PATH "/var/sock/ipsecmgmt"
#define NMSEC_MESSAGE_IDENT_ASCII "\x4e\x4d\x73\x4d"
#define NMSEC_RECORD_IDENT_ASCII "\x4e\x4d\x73\x52"
#define NMSEC_MESSAGE_IDENT_EBCDIC "\xd5\xd4\xa2\xd4"
#define NMSEC_RECORD_IDENT_EBCDIC "\xd5\xd4\xa2\xd9"
#define NMsec_VERSION1 1U
#define NMSEC_MAX_REQUEST_BYTES 1048576U
#define NMSEC_MAX_FILTERS 100U
#define NMSEC_MAX_TUNNELS 1000U

/* Message types (NMsMType), section 3; 0x81xx are this project's. */
#define NMsec_INIT 0x0001U
#define NMsec_TERM 0x0002U
#define NMsec_GET_STACKINFO 0x0101U
#define NMsec_GET_SUMMARY 0x0102U
#define NMsec_GET_IPFLTCURR 0x0103U
#define NMsec_GET_IPFLTDEFAULT 0x0104U
#define NMsec_GET_IPFLTPOLICY 0x0105U
#define NMsec_GET_PORTTRAN 0x0106U
#define NMsec_GET_IPTUNMANUAL 0x0107U
#define NMsec_GET_IPTUNDYNSTACK 0x0108U
#define NMsec_GET_IPTUNDYNIKE 0x0109U
#define NMsec_GET_IKETUN 0x010aU
#define NMsec_GET_IKETUNCASCADE 0x010bU
#define NMsec_GET_IPINTERFACES 0x010cU
#define NMsec_GET_IKENSINFO 0x010dU
#define NMsec_GET_CLIENTINFO 0x010eU
#define NMsec_ACTIVATE_IPTUNMANUAL 0x0201U
#define NMsec_DEACTIVATE_IPTUNMANUAL 0x0202U
#define NMsec_ACTIVATE_IPTUNDYN 0x0203U
#define NMsec_DEACTIVATE_IPTUNDYN 0x0204U
#define NMsec_REFRESH_IPTUNDYN 0x0205U
#define NMsec_DEACTIVATE_IKETUN 0x0206U
#define NMsec_REFRESH_IKETUN 0x0207U
#define NMsec_LOAD_POLICY 0x0208U
#define NMsec_EVENT 0x8001U
#define NMsec_GET_DROPS 0x8101U
#define NMsec_GET_DISTRIBUTION 0x8102U
#define NMsec_GET_DVIPA 0x8103U
#define NMsec_GET_VIPATARGETS 0x8104U
#define NMsec_GET_TAKEOVERS 0x8105U
#define NMsec_GET_AUTHORITY 0x8106U
#define NMsec_SUBSCRIBE 0x8107U
#define NMsec_UNSUBSCRIBE 0x8108U
#define NMsec_GET_DEFENSIVE 0x8109U
#define NMsec_TEST_PACKET 0x81ffU
#define NMsec_MOVE_DVIPA 0x8201U
#define NMsec_DEACTIVATE_DVIPA 0x8202U
#define NMsec_REACTIVATE_DVIPA 0x8203U
#define NMsec_QUIESCE_TARGET 0x8204U
#define NMsec_RESUME_TARGET 0x8205U
#define NMsec_ADD_DEFENSIVE 0x8206U
#define NMsec_UPDATE_DEFENSIVE 0x8207U
#define NMsec_DELETE_DEFENSIVE 0x8208U

/* Return codes (NMsMRc), section 9: errno of z/OS, not of this machine. */
#define NMsec_RC_OK 0U
#define NMsec_RC_EACCES 111U
#define NMsec_RC_EAGAIN 112U
#define NMsec_RC_EINVAL 121U
#define NMsec_RC_EIO 122U
#define NMsec_RC_ENXIO 138U
#define NMsec_RC_EOPNOTSUPP 1112U
#define NMsec_RC_ETIMEDOUT 1127U

/* Reason codes (NMsMRsn), section 9. */
#define NMsRsnNone 0U /* none */
#define NMsRsnBadIdent 1U
#define NMsRsnBadVersion 2U
#define NMsRsnBadType 3U
#define NMsRsnExcessiveSize 4U
#define NMsRsnHdrSize 5U
#define NMsRsnMsgSize 6U
#define NMsRsnReservedNonzero 7U
#define NMsRsnRecordLength 8U
#define NMsRsnRecordNum 9U
#define NMsRsnSecDesc 10U
#define NMsRsnSecLength 11U
#define NMsRsnBadFilter 12U
#define NMsRsnBadValue 13U
#define NMsRsnBadTarget 14U
#define NMsRsnMaxClients 20U
#define NMsRsnTimeout 21U
#define NMsRsnShutdown 22U
#define NMsRsnPolicyLoad 23U
#define NMsRsnInternal 24U
#define NMsRsnBusy 25U

/* State of an SA or tunnel, section 8.1. */
#define NMsec_SASTATE_INACTIVE 1U /* inactive */
#define NMsec_SASTATE_PENDING 2U /* pending */
#define NMsec_SASTATE_IN_NEGOTIATION 3U /* in negotiation */
#define NMsec_SASTATE_ACTIVE 4U /* active */
#define NMsec_SASTATE_EXPIRED 5U /* expired */
#define NMsec_SASTATE_HALF_CLOSED 6U /* half-closed */

/* Kind of an IP tunnel (NMsIPTunType). */
#define NMsec_TUNTYPE_MANUAL 1U /* manual */
#define NMsec_TUNTYPE_STACK 2U /* dynamic, stack */
#define NMsec_TUNTYPE_IKE 3U /* dynamic, IKE */

/* Encapsulation mode (NMsIPTunEncapMode). */
#define NMsec_ENCAP_TUNNEL 1U /* tunnel */
#define NMsec_ENCAP_TRANSPORT 2U /* transport */

/* Protocol that authenticates (NMsIPTunAuthProto). */
#define NMsec_AUTHPROTO_NONE 0U /* none */
#define NMsec_AUTHPROTO_ESP 50U
#define NMsec_AUTHPROTO_AH 51U

/* Integrity algorithm, section 8.3. */
#define NMsec_AUTHALG_NONE 0U /* none */
#define NMsec_AUTHALG_AES_GMAC_128 4U /* AES-GMAC-128 */
#define NMsec_AUTHALG_AES_GMAC_192 5U /* AES-GMAC-192 */
#define NMsec_AUTHALG_AES_GMAC_256 6U /* AES-GMAC-256 */
#define NMsec_AUTHALG_HMAC_SHA2_256_128 7U /* HMAC-SHA2-256-128 */
#define NMsec_AUTHALG_AES128_XCBC_96 9U /* AES128-XCBC-96 */
#define NMsec_AUTHALG_HMAC_SHA2_384_192 13U /* HMAC-SHA2-384-192 */
#define NMsec_AUTHALG_HMAC_SHA2_512_256 14U /* HMAC-SHA2-512-256 */
#define NMsec_AUTHALG_HMAC_MD5 38U /* HMAC-MD5 */
#define NMsec_AUTHALG_HMAC_SHA1 39U /* HMAC-SHA1 */
#define NMsec_AUTHALG_HMAC_MD5_96 40U /* HMAC-MD5-96 */
#define NMsec_AUTHALG_HMAC_SHA1_96 41U /* HMAC-SHA1-96 */

/* Encryption algorithm, section 8.4. */
#define NMsec_ENCALG_NONE 0U /* none */
#define NMsec_ENCALG_DES_CBC 2U /* DES-CBC */
#define NMsec_ENCALG_TRIPLE_DES_CBC 3U /* 3DES-CBC */
#define NMsec_ENCALG_NULL 11U
#define NMsec_ENCALG_AES_CBC 12U /* AES-CBC */
#define NMsec_ENCALG_AES_CTR 13U /* AES-CTR */
#define NMsec_ENCALG_AES_GCM_8 18U /* AES-GCM-8 */
#define NMsec_ENCALG_AES_GCM_12 19U /* AES-GCM-12 */
#define NMsec_ENCALG_AES_GCM_16 20U /* AES-GCM-16 */
#define NMsec_ENCALG_CHACHA20_POLY1305 28U /* ChaCha20-Poly1305 */

/* Diffie-Hellman group, section 8.5. */
#define NMsec_DH_NONE 0U /* none */
#define NMsec_DH_GROUP_1 1U /* Group1 */
#define NMsec_DH_GROUP_2 2U /* Group2 */
#define NMsec_DH_GROUP_5 5U /* Group5 */
#define NMsec_DH_GROUP_14 14U /* Group14 */
#define NMsec_DH_GROUP_19 19U /* Group19 */
#define NMsec_DH_GROUP_20 20U /* Group20 */
#define NMsec_DH_GROUP_21 21U /* Group21 */
#define NMsec_DH_GROUP_24 24U /* Group24 */
#define NMsec_DH_GROUP_31 31U /* Group31 */

/* Pseudo-random function (NMsIKETunPRF). */
#define NMsec_PRF_NONE 0U /* none */
#define NMsec_PRF_HMAC_MD5 1U /* HMAC-MD5 */
#define NMsec_PRF_HMAC_SHA1 2U /* HMAC-SHA1 */
#define NMsec_PRF_AES128_XCBC 4U /* AES128-XCBC */
#define NMsec_PRF_HMAC_SHA2_256 5U /* HMAC-SHA2-256 */
#define NMsec_PRF_HMAC_SHA2_384 6U /* HMAC-SHA2-384 */
#define NMsec_PRF_HMAC_SHA2_512 7U /* HMAC-SHA2-512 */

/* How a side authenticates (NMsIKETunLclAuth). */
#define NMsec_AUTHMETHOD_UNKNOWN 0U /* unknown */
#define NMsec_AUTHMETHOD_RSA_SIGNATURE 1U /* RSA signature */
#define NMsec_AUTHMETHOD_PRE_SHARED_KEY 2U /* pre-shared key */
#define NMsec_AUTHMETHOD_ECDSA_256 9U /* ECDSA-256 */
#define NMsec_AUTHMETHOD_ECDSA_384 10U /* ECDSA-384 */
#define NMsec_AUTHMETHOD_ECDSA_521 11U /* ECDSA-521 */
#define NMsec_AUTHMETHOD_DIGITAL_SIGNATURE 14U /* digital signature */

/* NAT traversal support (NMsIKETunNATTLevel). */
#define NMsec_NATT_NONE 0U /* none */
#define NMsec_NATT_RFC3947_DRAFT_2 1U /* RFC 3947 draft 2 */
#define NMsec_NATT_RFC3947_DRAFT_3 2U /* RFC 3947 draft 3 */
#define NMsec_NATT_RFC3947 3U /* RFC 3947 */
#define NMsec_NATT_RFC3947_ZOS 4U /* RFC 3947 with z/OS */
#define NMsec_NATT_IKEV2 5U /* IKEv2 */

/* Why a dynamic tunnel exists, section 8.2. */
#define NMsec_ACTMETHOD_COMMAND 1U /* command */
#define NMsec_ACTMETHOD_REMOTE 2U /* remote */
#define NMsec_ACTMETHOD_ON_DEMAND 3U /* on demand */
#define NMsec_ACTMETHOD_TAKEOVER 5U /* takeover */
#define NMsec_ACTMETHOD_AUTO 6U /* automatic */

/* Progress of an IKE tunnel, section 8.6. */
#define NMsec_IKEEXT_UNKNOWN 0U /* unknown */
#define NMsec_IKEEXT_PENDING 1U
#define NMsec_IKEEXT_INIT 2U
#define NMsec_IKEEXT_WAIT_SA 3U /* WAIT SA */
#define NMsec_IKEEXT_WAIT_KE 4U /* WAIT KE */
#define NMsec_IKEEXT_WAIT_AUTH 5U /* WAIT AUTH */
#define NMsec_IKEEXT_DONE 6U
#define NMsec_IKEEXT_EXPIRED 7U
#define NMsec_IKEEXT_HALF_CLOSED 8U /* HALF-CLOSED */

/* Progress of a dynamic tunnel, section 8.7. */
#define NMsec_DYNEXT_UNKNOWN 0U /* unknown */
#define NMsec_DYNEXT_PENDING 1U
#define NMsec_DYNEXT_INIT 2U
#define NMsec_DYNEXT_KEP 3U
#define NMsec_DYNEXT_NOTIFY 4U
#define NMsec_DYNEXT_DONE 6U
#define NMsec_DYNEXT_EXPIRED 7U
#define NMsec_DYNEXT_HALF_CLOSED 8U /* HALF-CLOSED */

/* Role in a negotiation. */
#define NMsec_ROLE_INITIATOR 1U /* initiator */
#define NMsec_ROLE_RESPONDER 2U /* responder */

/* IKEv1 exchange (NMsIKETunExchMode). */
#define NMsec_EXCHANGE_NOT_APPLICABLE 0U /* n/a */
#define NMsec_EXCHANGE_MAIN 2U /* main */
#define NMsec_EXCHANGE_AGGRESSIVE 4U /* aggressive */

/* Type of an identity, section 8.8. */
#define NMsec_IDTYPE_NONE 0U /* none */
#define NMsec_IDTYPE_IPV4_ADDR 1U /* ID_IPV4_ADDR */
#define NMsec_IDTYPE_FQDN 2U /* ID_FQDN */
#define NMsec_IDTYPE_USER_FQDN 3U /* ID_USER_FQDN */
#define NMsec_IDTYPE_IPV4_SUBNET 4U /* ID_IPV4_ADDR_SUBNET */
#define NMsec_IDTYPE_IPV6_ADDR 5U /* ID_IPV6_ADDR */
#define NMsec_IDTYPE_IPV6_SUBNET 6U /* ID_IPV6_ADDR_SUBNET */
#define NMsec_IDTYPE_IPV4_RANGE 7U /* ID_IPV4_ADDR_RANGE */
#define NMsec_IDTYPE_IPV6_RANGE 8U /* ID_IPV6_ADDR_RANGE */
#define NMsec_IDTYPE_DER_ASN1_DN 9U /* ID_DER_ASN1_DN */
#define NMsec_IDTYPE_KEY_ID 11U /* ID_KEY_ID */

/* Kind of an IP filter, section 8.9. */
#define NMsec_FILTYPE_GENERIC 1U /* generic */
#define NMsec_FILTYPE_DYNAMIC_ANCHOR 2U /* dynamic anchor */
#define NMsec_FILTYPE_DYNAMIC 3U /* dynamic */
#define NMsec_FILTYPE_NATT_ANCHOR 4U /* NAT-T anchor */
#define NMsec_FILTYPE_NATT_DYNAMIC 5U /* NAT-T dynamic */
#define NMsec_FILTYPE_NRF 6U
#define NMsec_FILTYPE_DEFENSIVE 7U /* defensive */

/* Whether a filter is in force (NMsFilState). */
#define NMsec_FILSTATE_ACTIVE 1U /* active */
#define NMsec_FILSTATE_INACTIVE 2U /* inactive */

/* What a filter does (NMsFilAction). */
#define NMsec_FILACTION_PERMIT 1U /* permit */
#define NMsec_FILACTION_DENY 2U /* deny */
#define NMsec_FILACTION_IPSEC 3U /* permit with IPSec */
#define NMsec_FILACTION_DEFENSIVE_BLOCK 4U /* defensive block */
#define NMsec_FILACTION_DEFENSIVE_SIMULATE 5U /* defensive simulate */

/* Whose traffic a filter sees (NMsFilScope). */
#define NMsec_FILSCOPE_LOCAL 1U /* local */
#define NMsec_FILSCOPE_ROUTED 2U /* routed */
#define NMsec_FILSCOPE_BOTH 3U /* both */

/* Direction of a filter (NMsFilDirection). */
#define NMsec_DIRECTION_INBOUND 1U /* inbound */
#define NMsec_DIRECTION_OUTBOUND 2U /* outbound */

/* What a filter logs (NMsFilLogging). */
#define NMsec_FILLOG_NONE 0U /* none */
#define NMsec_FILLOG_PERMITTED 1U /* permitted */
#define NMsec_FILLOG_DENIED 2U /* denied */
#define NMsec_FILLOG_ALL 3U /* all */

/* What the sender of a denied packet is told (NMsFilDiscard). */
#define NMsec_DISCARD_SILENT 0U /* silent */
#define NMsec_DISCARD_ICMP 1U

/* Which side may open a TCP connection (NMsFilTCPQual). */
#define NMsec_TCPQUAL_NONE 0U /* none */
#define NMsec_TCPQUAL_INBOUND_CONNECT 1U /* inbound connect */
#define NMsec_TCPQUAL_OUTBOUND_CONNECT 2U /* outbound connect */

/* Reach of a defensive filter (NMsFilDefType). */
#define NMsec_DEFTYPE_NOT_APPLICABLE 0U /* n/a */
#define NMsec_DEFTYPE_GLOBAL 1U /* global */
#define NMsec_DEFTYPE_STACK 2U /* stack */

/* Form of an address specification. */
#define NMsec_ADDRTYPE_ALL 0U /* all */
#define NMsec_ADDRTYPE_SINGLE 1U /* single */
#define NMsec_ADDRTYPE_PREFIX 2U /* prefix */
#define NMsec_ADDRTYPE_RANGE 3U /* range */

/* Defensive filtering of a stack (NMsStackDefMode). */
#define NMsec_DEFMODE_INACTIVE 0U /* inactive */
#define NMsec_DEFMODE_ACTIVE 1U /* active */
#define NMsec_DEFMODE_SIMULATE 2U /* simulate */

/* DF bit of the outer header (NMsIPTunDFMode). */
#define NMsec_DF_NOT_APPLICABLE 0U /* n/a */
#define NMsec_DF_COPIED 1U /* copied */
#define NMsec_DF_CLEARED 2U /* cleared */
#define NMsec_DF_SET 3U /* set */

/* DSCP of the outer header (NMsIPTunDSCPMode). */
#define NMsec_DSCP_NOT_APPLICABLE 0U /* n/a */
#define NMsec_DSCP_COPIED 1U /* copied */
#define NMsec_DSCP_CLEARED 2U /* cleared */

/* Connection to an NSS server (NMsIKENSConnState). */
#define NMsec_NSS_NOT_APPLICABLE 0U /* n/a */
#define NMsec_NSS_NOT_CONNECTED 1U /* not connected */
#define NMsec_NSS_CONNECTING 2U /* connecting */
#define NMsec_NSS_CONNECTED 3U /* connected */

/* Record of an SA in the coupling facility (NMsDistCFRecord). */
#define NMsec_CF_NOT_APPLICABLE 0U /* n/a */
#define NMsec_CF_STORED 1U /* stored */
#define NMsec_CF_FAILED 2U /* failed */

/* Result for one object of a control request (NMsTunStatus). */
#define NMsec_TUNSTATUS_NOT_PROCESSED 0U /* not processed */
#define NMsec_TUNSTATUS_NOTFOUND 1U
#define NMsec_TUNSTATUS_STATEUPDATED 2U
#define NMsec_TUNSTATUS_STATEALREADYSET 3U
#define NMsec_TUNSTATUS_NOKER 5U
#define NMsec_TUNSTATUS_NOFILTER 6U
#define NMsec_TUNSTATUS_NODATAOFFER 7U
#define NMsec_TUNSTATUS_FAILED 8U

/* A set of filters (NMsPolFilterSet). */
#define NMsec_FLT_DEFAULT 0U
#define NMsec_FLT_POLICY 1U

/* What a stack is for a DVIPA, section 8.10. */
#define NMsec_DVIPA_UNKNOWN 0U /* unknown */
#define NMsec_DVIPA_ACTIVE 1U
#define NMsec_DVIPA_BACKUP 2U
#define NMsec_DVIPA_MOVING 3U
#define NMsec_DVIPA_QUIESCING 4U
#define NMsec_DVIPA_DEACTIVATED 5U
#define NMsec_DVIPA_DEST 6U

/* What becomes of the SAs of a DVIPA when its owner changes (NMsDvpTakeover). */
#define NMsec_TAKEOVER_RENEGOTIATE 1U /* renegotiate */
#define NMsec_TAKEOVER_CONTINUE 2U /* continue */

/* When a DVIPA goes back (NMsDvpGiveback). */
#define NMsec_GIVEBACK_IMMEDIATE 1U /* immediate */
#define NMsec_GIVEBACK_WHEN_IDLE 2U /* when idle */
#define NMsec_GIVEBACK_MANUAL 3U /* manual */

/* What the coupling facility has of a DVIPA, section 8.11. */
#define NMsec_CFSTATE_NOT_APPLICABLE 0U /* n/a */
#define NMsec_CFSTATE_STORED 1U /* Stored */
#define NMsec_CFSTATE_FAILED 2U /* Failed */
#define NMsec_CFSTATE_NOT_PROTECTED 3U /* not protected */

/* A backup (NMsBkpState). */
#define NMsec_BACKUP_UNKNOWN 0U /* unknown */
#define NMsec_BACKUP_READY 1U /* ready */
#define NMsec_BACKUP_NOT_READY 2U /* not ready */
#define NMsec_BACKUP_GONE 3U /* gone */

/* How a target is chosen (NMsVtgMethod). */
#define NMsec_METHOD_UNKNOWN 0U /* unknown */
#define NMsec_METHOD_ROUND_ROBIN 1U /* round-robin */
#define NMsec_METHOD_WEIGHTED_ACTIVE 2U /* weighted-active */
#define NMsec_METHOD_HOT_STANDBY 3U /* hot-standby */
#define NMsec_METHOD_WLM 4U /* wlm */
#define NMsec_METHOD_MAGLEV 5U /* maglev */

/* Why a DVIPA changed its owner, section 8.12. */
#define NMsec_CAUSE_UNKNOWN 0U /* unknown */
#define NMsec_CAUSE_START 1U /* start */
#define NMsec_CAUSE_OPERATOR 2U /* operator */
#define NMsec_CAUSE_CONFIGURATION 3U /* configuration */
#define NMsec_CAUSE_GIVEBACK 4U /* giveback */
#define NMsec_CAUSE_OWNER_STOPPED 5U /* owner stopped */
#define NMsec_CAUSE_OWNER_ENDED 6U /* owner ended */
#define NMsec_CAUSE_LEASE_ENDED 7U /* lease ended */
#define NMsec_CAUSE_RESTART 8U /* restart */
#define NMsec_CAUSE_DEACTIVATED 9U /* deactivated */

/* How far a takeover is (NMsTkoResult). */
#define NMsec_RESULT_RUNNING 0U /* running */
#define NMsec_RESULT_DONE 1U /* done */
#define NMsec_RESULT_INCOMPLETE 2U /* incomplete */
#define NMsec_RESULT_OVERTAKEN 3U /* overtaken */
#define NMsec_RESULT_FAILED 4U /* failed */

/* What happened (NMsEvtKind), section 8.14. */
#define NMsec_EVENT_IKE_UP 1U /* ike_up */
#define NMsec_EVENT_IKE_REKEYED 2U /* ike_rekeyed */
#define NMsec_EVENT_IKE_DOWN 3U /* ike_down */
#define NMsec_EVENT_CHILD_UP 4U /* child_up */
#define NMsec_EVENT_CHILD_REKEYED 5U /* child_rekeyed */
#define NMsec_EVENT_CHILD_DOWN 6U /* child_down */
#define NMsec_EVENT_NEGOTIATION_FAILED 7U /* negotiation_failed */
#define NMsec_EVENT_OWNER_CHANGED 8U /* owner_changed */
#define NMsec_EVENT_PROTECTION_LOST 9U /* protection_lost */
#define NMsec_EVENT_PROTECTION_REGAINED 10U /* protection_regained */
#define NMsec_EVENT_POLICY_LOADED 11U /* policy_loaded */
#define NMsec_EVENT_POLICY_FAILED 12U /* policy_failed */
#define NMsec_EVENT_STACK_UP 13U /* stack_up */
#define NMsec_EVENT_STACK_DOWN 14U /* stack_down */

/* A step of a takeover, section 8.13. */
#define NMsec_STEP_DETECT 1U /* detect */
#define NMsec_STEP_ACQUIRE 2U /* acquire */
#define NMsec_STEP_READ 3U /* read */
#define NMsec_STEP_FILTERS 4U /* filters */
#define NMsec_STEP_ANNOUNCE 5U /* announce */
#define NMsec_STEP_NOTIFY 6U /* notify */
#define NMsec_STEP_RENEGOTIATE 7U /* renegotiate */
#define NMsec_STEP_STORE 8U /* store */
#define NMsec_STEP_CLEAR 9U /* clear */
#define NMsec_STEP_OWNER 10U /* owner */
#define NMsec_STEP_RELIEVE 11U /* relieve */

/* What becomes of a tested packet (NMsVdtTreatment). */
#define NMsec_TREATMENT_CLEAR 1U /* in clear */
#define NMsec_TREATMENT_DENIED 2U /* denied */
#define NMsec_TREATMENT_PROTECTED 3U /* by an SA */
#define NMsec_TREATMENT_NO_SA 4U /* dropped: no SA */
#define NMsec_TREATMENT_NEGOTIATED 5U /* an SA is negotiated */

/* Result for one object of a control request about DVIPAs (NMsVctStatus). */
#define NMsec_VIPASTATUS_NOT_PROCESSED 0U /* not processed */
#define NMsec_VIPASTATUS_NOTFOUND 1U
#define NMsec_VIPASTATUS_STARTED 2U
#define NMsec_VIPASTATUS_ALREADYSET 3U
#define NMsec_VIPASTATUS_NOTABACKUP 4U
#define NMsec_VIPASTATUS_NOTREADY 5U
#define NMsec_VIPASTATUS_BUSY 6U
#define NMsec_VIPASTATUS_NOTOWNER 7U
#define NMsec_VIPASTATUS_FAILED 8U

/* Result for one object of a control request about defensive filters (NMsDctStatus). */
#define NMsec_DEFSTATUS_NOT_PROCESSED 0U /* not processed */
#define NMsec_DEFSTATUS_NOTFOUND 1U
#define NMsec_DEFSTATUS_DONE 2U
#define NMsec_DEFSTATUS_EXISTS 3U
#define NMsec_DEFSTATUS_INACTIVE 4U
#define NMsec_DEFSTATUS_LIFETIME 5U
#define NMsec_DEFSTATUS_FULL 6U
#define NMsec_DEFSTATUS_FAILED 7U

/* Section 2.2, 16 bytes. */
typedef struct NMsecInRecDesc {
    uint8_t NMsMInOff[4];                /*   0: u32: Offset of the first record from the start of the message, 0 if none */
    uint8_t NMsMInLen[4];                /*   4: u32: Bytes of all records */
    uint8_t NMsMInNum[4];                /*   8: u32: Records */
    uint8_t NMsMInRsvd[4];               /*  12: Reserved */
} NMsecInRecDesc;
NMSEC_SIZE(NMsecInRecDesc, 16);

/* Section 2.2, 16 bytes. */
typedef struct NMsecOutRecDesc {
    uint8_t NMsMOutOff[4];               /*   0: u32: Offset of the first record from the start of the message, 0 if none */
    uint8_t NMsMOutLen[4];               /*   4: u32: Bytes of all records, cascaded ones included */
    uint8_t NMsMOutNum[4];               /*   8: u32: Records, cascaded ones not counted */
    uint8_t NMsMOutTot[4];               /*  12: u32: Objects that there were before the input filters were applied */
} NMsecOutRecDesc;
NMSEC_SIZE(NMsecOutRecDesc, 16);

/* Section 2.1, 96 bytes. */
typedef struct NMsecMessageHdr {
    char NMsMIdent[4];                   /*   0: NMsM; tells the code page of the whole message */
    uint8_t NMsMHdrLength[4];            /*   4: u32: 96; longer in a later version */
    uint8_t NMsMVersion[2];              /*   8: u16: INIT: highest supported; request: the one wanted */
    uint8_t NMsMType[2];                 /*  10: u16: Message type; an answer has its request's */
    uint8_t NMsMLength[4];               /*  12: u32: Bytes of the whole message */
    uint8_t NMsMCorrelator[8];           /*  16: Anything; copied into the answer. 0 in INIT and TERM */
    uint8_t NMsMTimestamp[4];            /*  24: time, u32: When the message was made */
    uint8_t NMsMRc[4];                   /*  28: u32: Return code */
    uint8_t NMsMRsn[4];                  /*  32: u32: Reason code */
    uint8_t NMsMRsvd1[4];                /*  36: Reserved */
    char NMsMTarget[24];                 /*  40: Stack that the request is for, or blank */
    NMsecInRecDesc NMsMInRec;            /*  64: Input records of a request; zero in an answer */
    NMsecOutRecDesc NMsMOutRec;          /*  80: Output records of an answer; zero in a request */
} NMsecMessageHdr;
NMSEC_SIZE(NMsecMessageHdr, 96);

/* Section 2.3, 16 bytes. */
typedef struct NMsecRecordHdr {
    char NMsRIdent[4];                   /*   0: NMsR, in the code page of the message */
    uint8_t NMsRLength[4];               /*   4: u32: Bytes of the whole record, a multiple of 4 */
    uint8_t NMsRHdrLength[2];            /*   8: u16: 16 + 8 x sections + 12 x cascades */
    uint8_t NMsRNumSec[2];               /*  10: u16: Section descriptors */
    uint8_t NMsRNumCasc[2];              /*  12: u16: Cascade descriptors, 0 or 1 */
    uint8_t NMsRRsvd1[2];                /*  14: Reserved */
} NMsecRecordHdr;
NMSEC_SIZE(NMsecRecordHdr, 16);

/* Section 2.3, 8 bytes. */
typedef struct NMsecSecDesc {
    uint8_t NMsSOff[4];                  /*   0: u32: Offset of the first instance from the start of the record */
    uint8_t NMsSLen[2];                  /*   4: u16: Bytes of one instance: may be more than this header knows */
    uint8_t NMsSNum[2];                  /*   6: u16: Instances, one behind the other */
} NMsecSecDesc;
NMSEC_SIZE(NMsecSecDesc, 8);

/* Section 2.3, 12 bytes. */
typedef struct NMsecCascDesc {
    uint8_t NMsCOff[4];                  /*   0: u32: Offset of the first cascaded record from the start of the record */
    uint8_t NMsCLen[4];                  /*   4: u32: Bytes of all cascaded records */
    uint8_t NMsCNum[4];                  /*   8: u32: Cascaded records */
} NMsecCascDesc;
NMSEC_SIZE(NMsecCascDesc, 12);

/* Section 5, 232 bytes. */
typedef struct NMsecInFilter {
    uint8_t NMsFlags0[1];                /*   0: bits, see below */
    uint8_t NMsFlags1[3];                /*   1: bits, see below */
    char NMsFltTunnelID[48];             /*   4: Tunnel ID, for example `K1`, `Y2` */
    char NMsFltName[48];                 /*  52: IP filter: rule name. Dynamic tunnel: LocalDynVpnRule name. IKE tunnel: KeyExchangeRule name. Targets: stack */
    char NMsFltVPNAction[48];            /* 100: IpManVpnAction or IpDynVpnAction name */
    char NMsFltGroup[48];                /* 148: IP filter group name */
    uint8_t NMsFltLclAddr[16];           /* 196: addr: Local endpoint (tunnels), source address (filters), DVIPA (extensions) */
    uint8_t NMsFltRmtAddr[16];           /* 212: addr: Remote endpoint (tunnels, port translation), destination address (filters) */
    uint8_t NMsFltLclPrefix;             /* 228: Prefix length, 0..32 or 0..128; 32 or 128 = one address */
    uint8_t NMsFltRmtPrefix;             /* 229: Prefix length, 0..32 or 0..128; 32 or 128 = one address */
    uint8_t NMsFltProtocol;              /* 230: IP protocol number */
    uint8_t NMsFltState;                 /* 231: State, section 8.1 */
} NMsecInFilter;
NMSEC_SIZE(NMsecInFilter, 232);
#define NMsFltByTunnelID_BYTE 0 /* Criterion `NMsFltTunnelID` is specified */
#define NMsFltByTunnelID_MASK 0x80U
#define NMsFltByName_BYTE 0 /* Criterion `NMsFltName` is specified */
#define NMsFltByName_MASK 0x40U
#define NMsFltByVPNAction_BYTE 0 /* Criterion `NMsFltVPNAction` is specified */
#define NMsFltByVPNAction_MASK 0x20U
#define NMsFltByGroup_BYTE 0 /* Criterion `NMsFltGroup` is specified */
#define NMsFltByGroup_MASK 0x10U
#define NMsFltByLclAddr_BYTE 0 /* Criterion `NMsFltLclAddr` / prefix is specified */
#define NMsFltByLclAddr_MASK 0x08U
#define NMsFltByRmtAddr_BYTE 0 /* Criterion `NMsFltRmtAddr` / prefix is specified */
#define NMsFltByRmtAddr_MASK 0x04U
#define NMsFltByProtocol_BYTE 0 /* Criterion `NMsFltProtocol` is specified */
#define NMsFltByProtocol_MASK 0x02U
#define NMsFltByState_BYTE 0 /* Criterion `NMsFltState` is specified */
#define NMsFltByState_MASK 0x01U
#define NMsFltCurrentOnly_BYTE 1 /* Only the most recent SA of each tunnel family */
#define NMsFltCurrentOnly_MASK 0x80U
#define NMsFltIPv6_BYTE 1 /* Addresses in this filter are IPv6 */
#define NMsFltIPv6_MASK 0x40U
#define NMsFltShadow_BYTE 1 /* Only shadow tunnels */
#define NMsFltShadow_MASK 0x20U

/* Section 6.1, 36 bytes. */
typedef struct NMsecStack {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    char NMsStackName[24];               /*   4: Name of the stack (job name) */
    uint8_t NMsStackNATKeepAlive[4];     /*  28: u32: NAT keepalive interval in seconds */
    uint8_t NMsStackDefMode;             /*  32: Defensive filtering */
    uint8_t NMsStackRsvd2[3];            /*  33: Reserved */
} NMsecStack;
NMSEC_SIZE(NMsecStack, 36);
#define NMsStackIPSecurity_BYTE 0 /* IP security is on for this stack */
#define NMsStackIPSecurity_MASK 0x80U
#define NMsStackIPv6Security_BYTE 0 /* IP security for IPv6 is on */
#define NMsStackIPv6Security_MASK 0x40U
#define NMsStackDVIPSec_BYTE 0 /* Sysplex-wide SAs are on (stack takes part in distribution or takeover of a DVIPA) */
#define NMsStackDVIPSec_MASK 0x20U
#define NMsStackLogging_BYTE 0 /* Filter logging is on */
#define NMsStackLogging_MASK 0x10U
#define NMsStackPreDecap_BYTE 0 /* Filtering before decapsulation is on */
#define NMsStackPreDecap_MASK 0x08U
#define NMsStackFilterSet_BYTE 0 /* Filter set in force: 0 `NMsec_FLT_DEFAULT`, 1 `NMsec_FLT_POLICY` */
#define NMsStackFilterSet_MASK 0x04U
#define NMsStackFIPS140_BYTE 0 /* Cryptography restricted to FIPS 140 algorithms and modes */
#define NMsStackFIPS140_MASK 0x02U

/* Section 6.1, 24 bytes. */
typedef struct NMsecExclAddr {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsExclAddr[16];             /*   4: addr: Address or prefix excluded from defensive filtering */
    uint8_t NMsExclPrefix;               /*  20: Prefix length */
    uint8_t NMsExclRsvd2[3];             /*  21: Reserved */
} NMsecExclAddr;
NMSEC_SIZE(NMsecExclAddr, 24);
#define NMsExclIPv6_BYTE 0 /* Address is IPv6 */
#define NMsExclIPv6_MASK 0x80U

/* Section 6.2, 180 bytes. */
typedef struct NMsecStatistics {
    uint8_t NMsStatP1Active[4];          /*   0: u32: IKE tunnels active now */
    uint8_t NMsStatP1InProgress[4];      /*   4: u32: IKE tunnels pending or being negotiated now */
    uint8_t NMsStatP1Expired[4];         /*   8: u32: Expired IKE tunnels still kept (kept until all their dynamic tunnels have expired) */
    uint8_t NMsStatP1LclActSuccess[8];   /*  12: u64: Successful activations started locally, cumulative */
    uint8_t NMsStatP1RmtActSuccess[8];   /*  20: u64: Successful activations started by the peer, cumulative */
    uint8_t NMsStatP1LclActFailure[8];   /*  28: u64: Failed activations started locally, cumulative */
    uint8_t NMsStatP1RmtActFailure[8];   /*  36: u64: Failed activations started by the peer, cumulative */
    uint8_t NMsStatP1Retransmit[8];      /*  44: u64: Retransmitted key-exchange (phase 1) messages, cumulative */
    uint8_t NMsStatP1Replay[8];          /*  52: u64: Replayed phase 1 messages received, cumulative */
    uint8_t NMsStatP1Invalid[8];         /*  60: u64: Invalid phase 1 messages received, cumulative */
    uint8_t NMsStatP1AuthFail[8];        /*  68: u64: Phase 1 authentication failures, cumulative */
    uint8_t NMsStatP2Active[4];          /*  76: u32: Dynamic tunnels active now, without shadows and manual tunnels */
    uint8_t NMsStatP2ActiveShadow[4];    /*  80: u32: Shadow dynamic tunnels active now, on a distribution target */
    uint8_t NMsStatP2InProgress[4];      /*  84: u32: Dynamic tunnels pending or being negotiated now */
    uint8_t NMsStatP2Expired[4];         /*  88: u32: Expired dynamic tunnels still kept */
    uint8_t NMsStatP2LclActSuccess[8];   /*  92: u64: As the phase 1 counter, for dynamic tunnels */
    uint8_t NMsStatP2RmtActSuccess[8];   /* 100: u64: As the phase 1 counter, for dynamic tunnels */
    uint8_t NMsStatP2LclActFailure[8];   /* 108: u64: As the phase 1 counter, for dynamic tunnels */
    uint8_t NMsStatP2RmtActFailure[8];   /* 116: u64: As the phase 1 counter, for dynamic tunnels */
    uint8_t NMsStatP2Retransmit[8];      /* 124: u64: Retransmitted phase 2 messages, cumulative */
    uint8_t NMsStatP2Replay[8];          /* 132: u64: Replayed phase 2 messages received, cumulative */
    uint8_t NMsStatP2Invalid[8];         /* 140: u64: Invalid phase 2 messages received, cumulative */
    uint8_t NMsStatPktPermit[8];         /* 148: u64: Packets permitted by filters, all filters */
    uint8_t NMsStatPktDeny[8];           /* 156: u64: Packets denied by a deny action */
    uint8_t NMsStatPktMismatch[8];       /* 164: u64: Packets denied by an action mismatch */
    uint8_t NMsStatManActive[4];         /* 172: u32: Manual tunnels active now */
    uint8_t NMsStatRsvd1[4];             /* 176: Reserved */
} NMsecStatistics;
NMSEC_SIZE(NMsecStatistics, 180);

/* Section 6.3, 408 bytes. */
typedef struct NMsecIPFilter {
    char NMsFilName[48];                 /*   0: Filter rule name */
    uint8_t NMsFilNameExt[4];            /*  48: u32: Number that distinguishes the filters generated from one rule, from 1 */
    char NMsFilGroup[48];                /*  52: Filter group name */
    char NMsFilLclStart[48];             /* 100: Local start action name */
    char NMsFilVPNAction[48];            /* 148: VPN action name */
    char NMsFilTunnelID[48];             /* 196: Tunnel ID, blank if none */
    uint8_t NMsFlags244[1];              /* 244: bits, see below */
    uint8_t NMsFlags245[3];              /* 245: bits, see below */
    uint8_t NMsFilType;                  /* 248: Kind, section 8.9 */
    uint8_t NMsFilState;                 /* 249: 1 active, 2 inactive */
    uint8_t NMsFilAction;                /* 250: 1 permit, 2 deny, 3 permit with IPSec, 4 defensive block, 5 defensive simulate */
    uint8_t NMsFilScope;                 /* 251: 1 local, 2 routed, 3 both */
    uint8_t NMsFilDirection;             /* 252: 1 inbound, 2 outbound */
    uint8_t NMsFilSecClass;              /* 253: Security class 1..255, 0 = any */
    uint8_t NMsFilLogging;               /* 254: 0 none, 1 permitted, 2 denied, 3 all */
    uint8_t NMsFilDiscard;               /* 255: 0 silent, 1 ICMP message */
    uint8_t NMsFilProtocol;              /* 256: IP protocol number; 0 with ProtoAny */
    uint8_t NMsFilTCPQual;               /* 257: 0 none, 1 inbound connects, 2 outbound connects */
    uint8_t NMsFilDefType;               /* 258: Defensive filter: 0 n/a, 1 global, 2 stack */
    uint8_t NMsFilRmtIDType;             /* 259: Type of section 2, section 8.8; 0 = none */
    uint8_t NMsFilSrcAddrType;           /* 260: 0 all, 1 single, 2 prefix, 3 range */
    uint8_t NMsFilSrcPrefix;             /* 261: Prefix length for type 2 */
    uint8_t NMsFilDstAddrType;           /* 262: 0 all, 1 single, 2 prefix, 3 range */
    uint8_t NMsFilDstPrefix;             /* 263: Prefix length for type 2 */
    uint8_t NMsFilSrcAddr[16];           /* 264: addr: Address, prefix or low end */
    uint8_t NMsFilSrcAddrHi[16];         /* 280: addr: High end for type 3 */
    uint8_t NMsFilDstAddr[16];           /* 296: addr: Address, prefix or low end */
    uint8_t NMsFilDstAddrHi[16];         /* 312: addr: High end for type 3 */
    uint8_t NMsFilRmtIDPayload[16];      /* 328: addr: NAT traversal: client address from the peer's ID payload, zero = none */
    uint8_t NMsFilSrcPortLo[2];          /* 344: u16: Source port, low */
    uint8_t NMsFilSrcPortHi[2];          /* 346: u16: Source port, high */
    uint8_t NMsFilDstPortLo[2];          /* 348: u16: Destination port, low */
    uint8_t NMsFilDstPortHi[2];          /* 350: u16: Destination port, high */
    uint8_t NMsFilTypeLo;                /* 352: ICMP, ICMPv6, OSPF or MIPv6 type, low */
    uint8_t NMsFilTypeHi;                /* 353: ICMP, ICMPv6, OSPF or MIPv6 type, high */
    uint8_t NMsFilCodeLo;                /* 354: ICMP code, low */
    uint8_t NMsFilCodeHi;                /* 355: ICMP code, high */
    uint8_t NMsFlags356[1];              /* 356: bits, see below */
    uint8_t NMsFilRsvd2[1];              /* 357: Reserved */
    uint8_t NMsFilLogLimit[2];           /* 358: u16: Log limit of a defensive filter, 0 = none */
    uint8_t NMsFilOrigRmtPort[2];        /* 360: u16: NAT resolution filter: original remote connection port */
    uint8_t NMsFilRmtUDPPort[2];         /* 362: u16: Remote UDP encapsulation port, 0 = none */
    uint8_t NMsFilCreateTime[4];         /* 364: time, u32: Time of creation */
    uint8_t NMsFilUpdateTime[4];         /* 368: time, u32: Time of the last update */
    uint8_t NMsFilExpires[4];            /* 372: time, u32: Defensive filter: end of life */
    uint8_t NMsFilMatches[8];            /* 376: u64: Packets that matched */
    uint8_t NMsFilPermits[8];            /* 384: u64: Of the matches, permitted */
    uint8_t NMsFilDenies[8];             /* 392: u64: Of the matches, denied by the action */
    uint8_t NMsFilMismatches[8];         /* 400: u64: Of the matches, denied by an action mismatch */
} NMsecIPFilter;
NMSEC_SIZE(NMsecIPFilter, 408);
#define NMsFilIPv6_BYTE 244 /* Addresses are IPv6 */
#define NMsFilIPv6_MASK 0x80U
#define NMsFilOnDemand_BYTE 244 /* On-demand activation allowed (dynamic anchor filters) */
#define NMsFilOnDemand_MASK 0x40U
#define NMsFilFragOnly_BYTE 244 /* Matches fragments only */
#define NMsFilFragOnly_MASK 0x20U
#define NMsFilProtoAny_BYTE 244 /* Any protocol */
#define NMsFilProtoAny_MASK 0x10U
#define NMsFilProtoOpaque_BYTE 244 /* Upper-layer protocol not identifiable */
#define NMsFilProtoOpaque_MASK 0x08U
#define NMsFilTypeAny_BYTE 244 /* Any ICMP/OSPF/MIPv6 type */
#define NMsFilTypeAny_MASK 0x04U
#define NMsFilCodeAny_BYTE 244 /* Any ICMP code */
#define NMsFilCodeAny_MASK 0x02U
#define NMsFilSrcPortAny_BYTE 244 /* Any source port */
#define NMsFilSrcPortAny_MASK 0x01U
#define NMsFilDstPortAny_BYTE 245 /* Any destination port */
#define NMsFilDstPortAny_MASK 0x80U
#define NMsFilGranSrcAddr_BYTE 356 /* Granularity of on-demand SAs, source address: 0 from the rule, 1 from the packet */
#define NMsFilGranSrcAddr_MASK 0x80U
#define NMsFilGranSrcPort_BYTE 356 /* Source port: 0 from the rule, 1 from the packet */
#define NMsFilGranSrcPort_MASK 0x40U
#define NMsFilGranDstAddr_BYTE 356 /* Destination address: 0 from the rule, 1 from the packet */
#define NMsFilGranDstAddr_MASK 0x20U
#define NMsFilGranDstPort_BYTE 356 /* Destination port: 0 from the rule, 1 from the packet */
#define NMsFilGranDstPort_MASK 0x10U
#define NMsFilGranProto_BYTE 356 /* Protocol: 0 from the rule, 1 from the packet */
#define NMsFilGranProto_MASK 0x08U
#define NMsFilGranType_BYTE 356 /* ICMP type: 0 from the rule, 1 from the packet */
#define NMsFilGranType_MASK 0x04U
#define NMsFilGranCode_BYTE 356 /* ICMP code: 0 from the rule, 1 from the packet */
#define NMsFilGranCode_MASK 0x02U
#define NMsFilGranMIPv6_BYTE 356 /* MIPv6 type: 0 from the rule, 1 from the packet */
#define NMsFilGranMIPv6_MASK 0x01U

/* Section 6.4, 44 bytes. */
typedef struct NMsecPortTran {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsPTrRmtAddr[16];           /*   4: addr: Remote (public) address */
    uint8_t NMsPTrInnerAddr[16];         /*  20: addr: Remote inner (private) address */
    uint8_t NMsPTrProtocol;              /*  36: 6 TCP or 17 UDP */
    uint8_t NMsPTrRsvd2[1];              /*  37: Reserved */
    uint8_t NMsPTrTransPort[2];          /*  38: u16: Translated remote connection port */
    uint8_t NMsPTrOrigPort[2];           /*  40: u16: Original remote connection port */
    uint8_t NMsPTrRsvd3[2];              /*  42: Reserved */
} NMsecPortTran;
NMSEC_SIZE(NMsecPortTran, 44);
#define NMsPTrIPv6_BYTE 0 /* Addresses are IPv6 (always 0) */
#define NMsPTrIPv6_MASK 0x80U

/* Section 6.5, 164 bytes. */
typedef struct NMsecIPTunnel {
    char NMsIPTunID[48];                 /*   0: Tunnel ID: Y (dynamic) or M (manual) and a decimal number */
    char NMsIPTunVPNAction[48];          /*  48: VPN action name */
    uint8_t NMsFlags96[4];               /*  96: bits, see below */
    uint8_t NMsIPTunType;                /* 100: Manual, dynamic as known to the stack, or dynamic as known to IKE */
    uint8_t NMsIPTunState;               /* 101: State, section 8.1 */
    uint8_t NMsIPTunEncapMode;           /* 102: 1 tunnel, 2 transport */
    uint8_t NMsIPTunAuthProto;           /* 103: 0 none, 50 ESP, 51 AH */
    uint8_t NMsIPTunAuthAlg;             /* 104: Integrity algorithm, section 8.3 */
    uint8_t NMsIPTunEncrAlg;             /* 105: Encryption algorithm, section 8.4 */
    uint8_t NMsIPTunKeyLength[2];        /* 106: u16: Encryption key length in bits, 0 = fixed or none */
    uint8_t NMsIPTunLclEndpt[16];        /* 108: addr: Local security endpoint */
    uint8_t NMsIPTunRmtEndpt[16];        /* 124: addr: Remote security endpoint */
    uint8_t NMsIPTunInAuthSPI[4];        /* 140: u32: Inbound SPI of the authentication SA */
    uint8_t NMsIPTunOutAuthSPI[4];       /* 144: u32: Outbound SPI of the authentication SA */
    uint8_t NMsIPTunInEncrSPI[4];        /* 148: u32: Inbound SPI of the encryption SA. With plain ESP equal to the authentication SPI */
    uint8_t NMsIPTunOutEncrSPI[4];       /* 152: u32: Outbound SPI of the encryption SA */
    uint8_t NMsIPTunStartTime[4];        /* 156: time, u32: Time the SA pair was installed */
    uint8_t NMsIPTunDFMode;              /* 160: DF bit of the outer header: 0 n/a, 1 copied from the inner header, 2 cleared, 3 set */
    uint8_t NMsIPTunDSCPMode;            /* 161: DSCP of the outer header: 0 n/a, 1 copied, 2 cleared */
    uint8_t NMsIPTunRsvd2[2];            /* 162: Reserved */
} NMsecIPTunnel;
NMSEC_SIZE(NMsecIPTunnel, 164);
#define NMsIPTunFlagIPv6_BYTE 96 /* Security endpoint and data endpoint addresses are IPv6 */
#define NMsIPTunFlagIPv6_MASK 0x80U
#define NMsIPTunFIPS140_BYTE 96 /* FIPS 140 mode for this tunnel */
#define NMsIPTunFIPS140_MASK 0x40U

/* Section 6.5, 32 bytes. */
typedef struct NMsecIPManualTunnel {
    uint8_t NMsIPManOutPkts[8];          /*   0: u64: Packets protected outbound */
    uint8_t NMsIPManOutBytes[8];         /*   8: u64: Bytes outbound */
    uint8_t NMsIPManInPkts[8];           /*  16: u64: Packets inbound */
    uint8_t NMsIPManInBytes[8];          /*  24: u64: Bytes inbound */
} NMsecIPManualTunnel;
NMSEC_SIZE(NMsecIPManualTunnel, 32);

/* Section 6.6, 224 bytes. */
typedef struct NMsecIPDynTunnel {
    char NMsIPDynRule[48];               /*   0: LocalDynVpnRule name; blank if activated on demand or by the peer */
    char NMsIPDynIKETunID[48];           /*  48: ID of the parent IKE tunnel */
    uint8_t NMsFlags96[4];               /*  96: bits, see below */
    uint8_t NMsIPDynGeneration[4];       /* 100: u32: SA number within the tunnel, from 1 */
    uint8_t NMsIPDynIKEMajor;            /* 104: IKE version, major: 1 or 2 */
    uint8_t NMsIPDynIKEMinor;            /* 105: IKE version, minor */
    uint8_t NMsIPDynActMethod;           /* 106: Why the tunnel exists, section 8.2 */
    uint8_t NMsIPDynProtocol;            /* 107: IP protocol selector, 0 = any */
    uint8_t NMsIPDynLclAddrType;         /* 108: 1 single, 2 prefix, 3 range */
    uint8_t NMsIPDynRmtAddrType;         /* 109: 1 single, 2 prefix, 3 range */
    uint8_t NMsIPDynLclPrefix;           /* 110: Prefix length for type 2 */
    uint8_t NMsIPDynRmtPrefix;           /* 111: Prefix length for type 2 */
    uint8_t NMsIPDynLclAddr[16];         /* 112: addr: Local data endpoint: address, prefix or low end */
    uint8_t NMsIPDynLclAddrHi[16];       /* 128: addr: High end for type 3 */
    uint8_t NMsIPDynRmtAddr[16];         /* 144: addr: Remote data endpoint: address, prefix or low end */
    uint8_t NMsIPDynRmtAddrHi[16];       /* 160: addr: High end for type 3 */
    uint8_t NMsIPDynLclPortLo[2];        /* 176: u16: Local port, low; 0..65535 = any */
    uint8_t NMsIPDynLclPortHi[2];        /* 178: u16: Local port, high */
    uint8_t NMsIPDynRmtPortLo[2];        /* 180: u16: Remote port, low */
    uint8_t NMsIPDynRmtPortHi[2];        /* 182: u16: Remote port, high */
    uint8_t NMsIPDynTypeLo;              /* 184: ICMP or MIPv6 type, low */
    uint8_t NMsIPDynTypeHi;              /* 185: ICMP or MIPv6 type, high */
    uint8_t NMsIPDynCodeLo;              /* 186: ICMP code, low */
    uint8_t NMsIPDynCodeHi;              /* 187: ICMP code, high */
    uint8_t NMsIPDynDHGroup[2];          /* 188: u16: Group of the fresh key exchange, section 8.5; 0 = none */
    uint8_t NMsIPDynRmtUDPPort[2];       /* 190: u16: Remote UDP encapsulation port, 0 = none */
    uint8_t NMsIPDynLifetime[4];         /* 192: u32: Negotiated lifetime in seconds */
    uint8_t NMsIPDynRefreshTime[4];      /* 196: time, u32: When the SA will be refreshed */
    uint8_t NMsIPDynExpireTime[4];       /* 200: time, u32: When the SA expires */
    uint8_t NMsIPDynVPNLifeExp[4];       /* 204: time, u32: End of VPN life, after which there is no more rekeying */
    uint8_t NMsIPDynLifesize[8];         /* 208: u64: Negotiated life size in bytes, 0 = none */
    uint8_t NMsIPDynRefreshSize[8];      /* 216: u64: Byte count at which the SA is refreshed */
} NMsecIPDynTunnel;
NMSEC_SIZE(NMsecIPDynTunnel, 224);
#define NMsIPDynUDPEncap_BYTE 96 /* UDP-encapsulated */
#define NMsIPDynUDPEncap_MASK 0x80U
#define NMsIPDynLclNAT_BYTE 96 /* NAT in front of the local endpoint */
#define NMsIPDynLclNAT_MASK 0x40U
#define NMsIPDynRmtNAT_BYTE 96 /* NAT in front of the remote endpoint */
#define NMsIPDynRmtNAT_MASK 0x20U
#define NMsIPDynRmtNAPT_BYTE 96 /* NAPT in front of the remote endpoint */
#define NMsIPDynRmtNAPT_MASK 0x10U
#define NMsIPDynRmtGW_BYTE 96 /* Peer acts as a security gateway */
#define NMsIPDynRmtGW_MASK 0x08U
#define NMsIPDynRmtZOS_BYTE 96 /* Peer is z/OS */
#define NMsIPDynRmtZOS_MASK 0x04U
#define NMsIPDynCanInitP2_BYTE 96 /* Local side can initiate phase 2 */
#define NMsIPDynCanInitP2_MASK 0x02U

/* Section 6.6, 44 bytes. */
typedef struct NMsecIPDynamicStack {
    uint8_t NMsIPDStOutPkts[8];          /*   0: u64: Packets outbound */
    uint8_t NMsIPDStOutBytes[8];         /*   8: u64: Bytes outbound */
    uint8_t NMsIPDStInPkts[8];           /*  16: u64: Packets inbound */
    uint8_t NMsIPDStInBytes[8];          /*  24: u64: Bytes inbound */
    uint8_t NMsIPDStCurSize[8];          /*  32: u64: Bytes carried since activation, to compare with the life size; 0 if none was negotiated */
    uint8_t NMsFlags40[4];               /*  40: bits, see below */
} NMsecIPDynamicStack;
NMSEC_SIZE(NMsecIPDynamicStack, 44);
#define NMsIPDStShadow_BYTE 40 /* Shadow SA on a distribution target */
#define NMsIPDStShadow_MASK 0x80U

/* Section 6.7, 64 bytes. */
typedef struct NMsecIPDynamicIKE {
    uint8_t NMsIPDIkeExtState;           /*   0: Progress of the negotiation, section 8.7 */
    uint8_t NMsIPDIkeRole;               /*   1: 1 initiator, 2 responder */
    uint8_t NMsIPDIkeLclIDType;          /*   2: Type of section 4 (section 8.8); 0 = absent */
    uint8_t NMsIPDIkeRmtIDType;          /*   3: Type of section 5 (section 8.8); 0 = absent */
    uint8_t NMsFlags4[4];                /*   4: bits, see below */
    uint8_t NMsIPDIkeSrcOAAddr[4];       /*   8: IPv4 address from the source NAT-OA payload */
    uint8_t NMsIPDIkeDstOAAddr[4];       /*  12: IPv4 address from the destination NAT-OA payload */
    char NMsIPDIkeFilterRule[48];        /*  16: IpFilterRule that led to the tunnel, blank if none */
} NMsecIPDynamicIKE;
NMSEC_SIZE(NMsecIPDynamicIKE, 64);
#define NMsIPDIkeSrcNATOA_BYTE 4 /* A source NAT-OA payload was received */
#define NMsIPDIkeSrcNATOA_MASK 0x80U
#define NMsIPDIkeDstNATOA_BYTE 4 /* A destination NAT-OA payload was received */
#define NMsIPDIkeDstNATOA_MASK 0x40U
#define NMsIPDIkePendAct_BYTE 4 /* A new activation is pending */
#define NMsIPDIkePendAct_MASK 0x20U
#define NMsIPDIkePendDeact_BYTE 4 /* A deactivation is pending */
#define NMsIPDIkePendDeact_MASK 0x10U

/* Section 6.8, 256 bytes. */
typedef struct NMsecIKETunnel {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    char NMsIKETunID[48];                /*   4: Tunnel ID: K and a decimal number */
    char NMsIKETunKeyExchRule[48];       /*  52: KeyExchangeRule name */
    char NMsIKETunKeyExchAction[48];     /* 100: KeyExchangeAction name */
    uint8_t NMsIKETunLclEndpt[16];       /* 148: addr: Local security endpoint */
    uint8_t NMsIKETunRmtEndpt[16];       /* 164: addr: Remote security endpoint */
    uint8_t NMsIKETunInitCookie[8];      /* 180: Initiator cookie (IKEv1) or SPI (IKEv2) */
    uint8_t NMsIKETunRespCookie[8];      /* 188: Responder cookie or SPI */
    uint8_t NMsIKETunState;              /* 196: State, section 8.1 */
    uint8_t NMsIKETunExtState;           /* 197: Progress, section 8.6 */
    uint8_t NMsIKETunRole;               /* 198: 1 initiator, 2 responder */
    uint8_t NMsIKETunExchMode;           /* 199: IKEv1 exchange: 2 main, 4 aggressive; 0 with IKEv2 */
    uint8_t NMsIKETunAuthAlg;            /* 200: Message authentication, section 8.3 */
    uint8_t NMsIKETunEncrAlg;            /* 201: Encryption, section 8.4 */
    uint8_t NMsIKETunKeyLength[2];       /* 202: u16: Encryption key length in bits */
    uint8_t NMsIKETunDHGroup[2];         /* 204: u16: Group, section 8.5 */
    uint8_t NMsIKETunPRF;                /* 206: Pseudo-random function: IANA IKEv2 transform type 2 number */
    uint8_t NMsIKETunLclAuth;            /* 207: How the local side authenticates: IANA IKEv2 authentication method */
    uint8_t NMsIKETunRmtAuth;            /* 208: How the peer authenticates: IANA IKEv2 authentication method */
    uint8_t NMsIKETunNATTLevel;          /* 209: NAT traversal support */
    uint8_t NMsIKETunIKEMajor;           /* 210: IKE version, major */
    uint8_t NMsIKETunIKEMinor;           /* 211: Minor */
    uint8_t NMsIKETunGeneration[4];      /* 212: u32: SA number within the tunnel, from 1 */
    uint8_t NMsIKETunLifetime[4];        /* 216: u32: Negotiated lifetime in seconds */
    uint8_t NMsIKETunRefreshTime[4];     /* 220: time, u32: When the SA will be refreshed */
    uint8_t NMsIKETunExpireTime[4];      /* 224: time, u32: When the SA expires */
    uint8_t NMsIKETunReauthIntvl[4];     /* 228: u32: Reauthentication interval in seconds, 0 = none */
    uint8_t NMsIKETunReauthTime[4];      /* 232: time, u32: Next reauthentication */
    uint8_t NMsIKETunRmtUDPPort[2];      /* 236: u16: Peer's UDP port if UDP-encapsulated, else 0 */
    uint8_t NMsIKETunLclIDType;          /* 238: Type of section 3 (section 8.8); 0 = not known */
    uint8_t NMsIKETunRmtIDType;          /* 239: Type of section 4 (section 8.8); 0 = not known */
    uint8_t NMsIKETunLifesize[8];        /* 240: u64: Negotiated life size in bytes, 0 = none */
    uint8_t NMsIKETunStartTime[4];       /* 248: time, u32: Activation time */
    uint8_t NMsIKETunRsvd2[4];           /* 252: Reserved */
} NMsecIKETunnel;
NMSEC_SIZE(NMsecIKETunnel, 256);
#define NMsIKETunIPv6_BYTE 0 /* Security endpoints are IPv6 */
#define NMsIKETunIPv6_MASK 0x80U
#define NMsIKETunNATAllowed_BYTE 0 /* NAT traversal is enabled for this tunnel */
#define NMsIKETunNATAllowed_MASK 0x40U
#define NMsIKETunLclNAT_BYTE 0 /* NAT detected in front of the local endpoint */
#define NMsIKETunLclNAT_MASK 0x20U
#define NMsIKETunRmtNAT_BYTE 0 /* NAT detected in front of the remote endpoint */
#define NMsIKETunRmtNAT_MASK 0x10U
#define NMsIKETunRmtNAPT_BYTE 0 /* NAPT detected in front of the remote endpoint (an undetected NAPT shows as NAT) */
#define NMsIKETunRmtNAPT_MASK 0x08U
#define NMsIKETunCanInitP1_BYTE 0 /* The local side can start IKE negotiations with the peer */
#define NMsIKETunCanInitP1_MASK 0x04U
#define NMsIKETunFIPS140_BYTE 0 /* FIPS 140 mode for this tunnel */
#define NMsIKETunFIPS140_MASK 0x02U

/* Section 6.8, 112 bytes. */
typedef struct NMsecIKETunStats {
    uint8_t NMsIKEStBytes[8];            /*   0: u64: Bytes protected by this SA */
    uint8_t NMsIKEStP2Active[4];         /*   8: u32: Active dynamic tunnels of this IKE tunnel */
    uint8_t NMsIKEStP2InProgress[4];     /*  12: u32: Dynamic tunnels in progress */
    uint8_t NMsIKEStP2Expired[4];        /*  16: u32: Expired dynamic tunnels */
    uint8_t NMsIKEStRsvd1[4];            /*  20: Reserved */
    uint8_t NMsIKEStP2LclActSuccess[8];  /*  24: u64: Phase 2 activations started locally, successful */
    uint8_t NMsIKEStP2RmtActSuccess[8];  /*  32: u64: Started by the peer, successful */
    uint8_t NMsIKEStP2LclActFailure[8];  /*  40: u64: Started locally, failed */
    uint8_t NMsIKEStP2RmtActFailure[8];  /*  48: u64: Started by the peer, failed */
    uint8_t NMsIKEStP1Retransmit[8];     /*  56: u64: Retransmitted phase 1 messages */
    uint8_t NMsIKEStP1Replay[8];         /*  64: u64: Replayed phase 1 messages received */
    uint8_t NMsIKEStP1Invalid[8];        /*  72: u64: Invalid phase 1 messages received */
    uint8_t NMsIKEStP1AuthFail[8];       /*  80: u64: Authentication failures */
    uint8_t NMsIKEStP2Retransmit[8];     /*  88: u64: Retransmitted phase 2 messages */
    uint8_t NMsIKEStP2Replay[8];         /*  96: u64: Replayed phase 2 messages received */
    uint8_t NMsIKEStP2Invalid[8];        /* 104: u64: Invalid phase 2 messages received */
} NMsecIKETunStats;
NMSEC_SIZE(NMsecIKETunStats, 112);

/* Section 6.12, 36 bytes. */
typedef struct NMsecInterface {
    char NMsInterfaceName[16];           /*   0: Interface name */
    uint8_t NMsInterfaceAddr[16];        /*  16: addr: IP address; IPv4 in the last 4 bytes, first 12 zero */
    uint8_t NMsInterfaceSecClass;        /*  32: Security class */
    uint8_t NMsFlags33[3];               /*  33: bits, see below */
} NMsecInterface;
NMSEC_SIZE(NMsecInterface, 36);
#define NMsIPv6_BYTE 33 /* The address is IPv6 */
#define NMsIPv6_MASK 0x80U
#define NMsInterfaceActive_BYTE 33 /* The interface is active */
#define NMsInterfaceActive_MASK 0x40U
#define NMsInterfaceDVIPA_BYTE 33 /* The address is a DVIPA */
#define NMsInterfaceDVIPA_MASK 0x20U

/* Section 6.13, 100 bytes. */
typedef struct NMsecNSS {
    char NMsIKENSClientName[24];         /*   0: NSS client name, by default sysname_stackname; blank if no NSS */
    char NMsIKENSStackName[8];           /*  24: Job name of the stack */
    char NMsIKENSUserid[8];              /*  32: User ID under which the client is registered; blank without NSS */
    char NMsIKENSServerSysName[8];       /*  40: System name of the NSS server; blank if no NSS */
    uint8_t NMsFlags48[4];               /*  48: bits, see below */
    uint8_t NMsIKENSConnState;           /*  52: 0 not applicable, 1 not connected, 2 connecting, 3 connected */
    uint8_t NMsIKENSClientAPIVer;        /*  53: API version of the client, 0 = n/a */
    uint8_t NMsIKENSServerAPIVer;        /*  54: API version of the server, 0 = n/a */
    uint8_t NMsIKENSRsvd2[1];            /*  55: Reserved */
    uint8_t NMsIKENSClientAddr[16];      /*  56: addr: Client address */
    uint8_t NMsIKENSServerAddr[16];      /*  72: addr: Server address */
    uint8_t NMsIKENSClientPort[2];       /*  88: u16: Client port */
    uint8_t NMsIKENSServerPort[2];       /*  90: u16: Server port */
    uint8_t NMsIKENSConnTime[4];         /*  92: time, u32: Time connected */
    uint8_t NMsIKENSLastMsgTime[4];      /*  96: time, u32: Time of the last message to the server */
} NMsecNSS;
NMSEC_SIZE(NMsecNSS, 100);
#define NMsIKENSSConfigured_BYTE 48 /* Stack is configured for an NSS server */
#define NMsIKENSSConfigured_MASK 0x80U
#define NMsIKENSSvcSelCert_BYTE 48 /* Certificate service selected */
#define NMsIKENSSvcSelCert_MASK 0x40U
#define NMsIKENSSvcEnblCert_BYTE 48 /* Certificate service enabled */
#define NMsIKENSSvcEnblCert_MASK 0x20U
#define NMsIKENSSvcSelRMgmt_BYTE 48 /* Remote management service selected */
#define NMsIKENSSvcSelRMgmt_MASK 0x10U
#define NMsIKENSSvcEnblRMgmt_BYTE 48 /* Remote management service enabled */
#define NMsIKENSSvcEnblRMgmt_MASK 0x08U
#define NMsIKENSIPv6_BYTE 48 /* Addresses below are IPv6 */
#define NMsIKENSIPv6_MASK 0x04U

/* Section 6.14, 64 bytes. */
typedef struct NMsecDist {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsDistCFRecord;             /*   4: Record in the coupling facility: 0 not applicable, 1 stored, 2 failed */
    uint8_t NMsDistRsvd2[3];             /*   5: Reserved */
    uint8_t NMsDistEpoch[8];             /*   8: u64: Owner epoch under which the SA was made */
    char NMsDistOwner[24];               /*  16: Stack that is the distributor (owner) of the DVIPA */
    char NMsDistFrom[24];                /*  40: Stack it was taken over from, blank if none */
} NMsecDist;
NMSEC_SIZE(NMsecDist, 64);
#define NMsDistDVIPA_BYTE 0 /* The local endpoint is a DVIPA */
#define NMsDistDVIPA_MASK 0x80U
#define NMsDistTakenOver_BYTE 0 /* This SA replaces one that was lost in a takeover */
#define NMsDistTakenOver_MASK 0x40U

/* Section 6.15, 56 bytes. */
typedef struct NMsecDrop {
    char NMsDropReason[48];              /*   0: Name of the reason in `snake_case`, the same in documentation, metrics and reports */
    uint8_t NMsDropPackets[8];           /*  48: u64: Packets dropped for it since the stack started */
} NMsecDrop;
NMSEC_SIZE(NMsecDrop, 56);

/* Section 6.16, 64 bytes. */
typedef struct NMsecDistribution {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsDtrDVIPA[16];             /*   4: addr: The distributed address */
    char NMsDtrTarget[24];               /*  20: Stack that the connections were given to */
    uint8_t NMsDtrPort[2];               /*  44: u16: Port (low end of a range) */
    uint8_t NMsDtrRsvd2[2];              /*  46: Reserved */
    uint8_t NMsDtrActive[8];             /*  48: u64: Connections in the table now */
    uint8_t NMsDtrTotal[8];              /*  56: u64: Connections since the distributor started */
} NMsecDistribution;
NMSEC_SIZE(NMsecDistribution, 64);
#define NMsDtrIPv6_BYTE 0 /* The DVIPA is IPv6 */
#define NMsDtrIPv6_MASK 0x80U

/* Section 6.17, 276 bytes. */
typedef struct NMsecDVIPA {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsDvpAddress[16];           /*   4: addr: The DVIPA */
    char NMsDvpOwner[24];                /*  20: Stack that owns it, blank if nobody does */
    char NMsDvpOwnerSystem[24];          /*  44: System of the owner */
    uint8_t NMsDvpEpoch[8];              /*  68: u64: Owner epoch: grows with each change of the owner */
    uint8_t NMsDvpState;                 /*  76: What the asked stack is for it, section 8.10 */
    uint8_t NMsDvpTakeover;              /*  77: What becomes of its SAs when the owner changes: 1 renegotiate, 2 continue */
    uint8_t NMsDvpGiveback;              /*  78: When it goes back to its preferred owner: 1 immediate, 2 when idle, 3 manual */
    uint8_t NMsDvpCFState;               /*  79: Whether the coupling facility has what a backup needs, section 8.11 */
    char NMsDvpCFReason[128];            /*  80: Why not, if the state is 2 or 3 */
    uint8_t NMsDvpConnections[8];        /* 208: u64: Connections in the owner's table */
    uint8_t NMsDvpIKESAs[4];             /* 216: u32: IKE SAs whose local endpoint it is */
    uint8_t NMsDvpChildSAs[4];           /* 220: u32: Child SAs whose local endpoint it is */
    uint8_t NMsDvpStored[4];             /* 224: u32: Of both, those whose record stands in the coupling facility */
    uint8_t NMsDvpFailed[4];             /* 228: u32: Of both, those whose record could not be written */
    uint8_t NMsDvpSince[4];              /* 232: time, u32: The owner owns it since */
    uint8_t NMsDvpLease[4];              /* 236: u32: Length of the lease in milliseconds, 0 without one */
    uint8_t NMsDvpCeiling[8];            /* 240: u64: Highest sequence number that the owner may send (continue), 0 without one */
    char NMsDvpFrom[24];                 /* 248: Stack that owned it before, blank if none is known */
    uint8_t NMsDvpRsvd2[4];              /* 272: Reserved */
} NMsecDVIPA;
NMSEC_SIZE(NMsecDVIPA, 276);
#define NMsDvpIPv6_BYTE 0 /* The DVIPA is IPv6 */
#define NMsDvpIPv6_MASK 0x80U
#define NMsDvpLeased_BYTE 0 /* The owner may use the address only while it holds a lease (several systems) */
#define NMsDvpLeased_MASK 0x40U
#define NMsDvpConnKnown_BYTE 0 /* The number of connections is known: the asked system runs the owner */
#define NMsDvpConnKnown_MASK 0x20U

/* Section 6.17, 52 bytes. */
typedef struct NMsecBackup {
    char NMsBkpStack[24];                /*   0: Stack */
    char NMsBkpSystem[24];               /*  24: Its system */
    uint8_t NMsBkpRank[2];               /*  48: u16: 0: the preferred owner; 1: the first of the backups to take over, and so on */
    uint8_t NMsBkpState;                 /*  50: 0 unknown, 1 ready, 2 not ready, 3 gone */
    uint8_t NMsBkpRsvd1[1];              /*  51: Reserved */
} NMsecBackup;
NMSEC_SIZE(NMsecBackup, 52);

/* Section 6.18, 104 bytes. */
typedef struct NMsecVipaTarget {
    uint8_t NMsFlags0[1];                /*   0: bits, see below */
    uint8_t NMsFlags1[3];                /*   1: bits, see below */
    uint8_t NMsVtgDVIPA[16];             /*   4: addr: The DVIPA */
    char NMsVtgTarget[24];               /*  20: Stack */
    uint8_t NMsVtgXCF[16];               /*  44: addr: XCF address; 0 where it is the owner itself */
    uint8_t NMsVtgProtocol;              /*  60: IP protocol */
    uint8_t NMsVtgMethod;                /*  61: How a target is chosen: 1 round-robin, 2 weighted-active, 3 hot-standby, 4 wlm, 5 maglev */
    uint8_t NMsVtgRsvd2[2];              /*  62: Reserved */
    uint8_t NMsVtgPortLow[2];            /*  64: u16: Low end of the ports */
    uint8_t NMsVtgPortHigh[2];           /*  66: u16: High end of the ports */
    uint8_t NMsVtgReady[4];              /*  68: u32: Listeners on these ports */
    uint8_t NMsVtgWeight[4];             /*  72: u32: Weight in use, 0 where the method has none */
    uint8_t NMsVtgActive[8];             /*  76: u64: Connections in the owner's table */
    uint8_t NMsVtgTotal[8];              /*  84: u64: Connections since the distributor started */
    uint8_t NMsVtgAffinity[4];           /*  92: u32: Seconds for which a client stays with its target after its last connection, 0 without affinity */
    uint8_t NMsVtgHeard[4];              /*  96: u32: Milliseconds since it was last heard */
    uint8_t NMsVtgRsvd3[4];              /* 100: Reserved */
} NMsecVipaTarget;
NMSEC_SIZE(NMsecVipaTarget, 104);
#define NMsVtgIPv6_BYTE 0 /* The DVIPA is IPv6 */
#define NMsVtgIPv6_MASK 0x80U
#define NMsVtgXCFIPv6_BYTE 0 /* The XCF address is IPv6 */
#define NMsVtgXCFIPv6_MASK 0x40U
#define NMsVtgQuiesced_BYTE 0 /* An operator took it out: no new connections */
#define NMsVtgQuiesced_MASK 0x20U
#define NMsVtgPreferred_BYTE 0 /* The preferred target of a hot standby */
#define NMsVtgPreferred_MASK 0x10U
#define NMsVtgLocal_BYTE 0 /* It is the owner itself */
#define NMsVtgLocal_MASK 0x08U
#define NMsVtgReadyKnown_BYTE 0 /* The ready count is known */
#define NMsVtgReadyKnown_MASK 0x04U
#define NMsVtgPathKnown_BYTE 0 /* The state of the XCF path is known */
#define NMsVtgPathKnown_MASK 0x02U
#define NMsVtgPathUp_BYTE 0 /* The XCF path works: it was heard in time */
#define NMsVtgPathUp_MASK 0x01U
#define NMsVtgConnKnown_BYTE 1 /* The counts of connections are known: the asked stack is the owner */
#define NMsVtgConnKnown_MASK 0x80U

/* Section 6.19, 268 bytes. */
typedef struct NMsecTakeover {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsTkoDVIPA[16];             /*   4: addr: The DVIPA */
    char NMsTkoFrom[24];                 /*  20: Old owner, blank if there was none */
    char NMsTkoTo[24];                   /*  44: New owner */
    uint8_t NMsTkoEpoch[8];              /*  68: u64: Epoch of the new owner */
    uint8_t NMsTkoCause;                 /*  76: Why, section 8.12 */
    uint8_t NMsTkoResult;                /*  77: How far: 0 running, 1 done, 2 incomplete, 3 overtaken by a later one, 4 failed */
    uint8_t NMsTkoRsvd2[2];              /*  78: Reserved */
    uint8_t NMsTkoStarted[4];            /*  80: time, u32: When it began */
    uint8_t NMsTkoDuration[8];           /*  84: u64: Microseconds from its begin to its end, or to now */
    uint8_t NMsTkoConnections[8];        /*  92: u64: Connections that targets reported */
    uint8_t NMsTkoSAs[4];                /* 100: u32: SAs that were to be taken over */
    uint8_t NMsTkoRemade[4];             /* 104: u32: Of these, negotiated anew */
    uint8_t NMsTkoContinued[4];          /* 108: u32: Of these, gone on with */
    uint8_t NMsTkoFailedSAs[4];          /* 112: u32: Of these, given up */
    uint8_t NMsTkoWaiting[4];            /* 116: u32: Of these, waiting for a peer that cannot be initiated */
    char NMsTkoReason[128];              /* 120: What is to be said beside, blank if nothing */
    uint8_t NMsTkoReady[8];              /* 248: u64: Microseconds from its begin to the first packet that the new owner could send, 0 if not known */
    uint8_t NMsTkoRsvd3[12];             /* 256: Reserved */
} NMsecTakeover;
NMSEC_SIZE(NMsecTakeover, 268);
#define NMsTkoIPv6_BYTE 0 /* The DVIPA is IPv6 */
#define NMsTkoIPv6_MASK 0x80U
#define NMsTkoContinue_BYTE 0 /* The SAs went on (continue) */
#define NMsTkoContinue_MASK 0x40U
#define NMsTkoPlanned_BYTE 0 /* Planned: the old owner gave it up by itself */
#define NMsTkoPlanned_MASK 0x20U

/* Section 6.19, 20 bytes. */
typedef struct NMsecTakeoverStep {
    uint8_t NMsTksStep;                  /*   0: Step, section 8.13 */
    uint8_t NMsTksRsvd1[3];              /*   1: Reserved */
    uint8_t NMsTksBegin[8];              /*   4: u64: Microseconds from the begin of the takeover to that of the step */
    uint8_t NMsTksDuration[8];           /*  12: u64: Microseconds that it took, so far if it still runs */
} NMsecTakeoverStep;
NMSEC_SIZE(NMsecTakeoverStep, 20);

/* Section 6.20, 284 bytes. */
typedef struct NMsecAuthority {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    char NMsAutStack[24];                /*   4: Stack; `DMD_GLOBAL`: the defensive filters of all stacks; blank: requests without a stack */
    char NMsAutDisplayBy[128];           /*  28: Profile that decided on displays, blank if none covers the resource */
    char NMsAutControlBy[128];           /* 156: Profile that decided on controls, blank if none covers the resource */
} NMsecAuthority;
NMSEC_SIZE(NMsecAuthority, 284);
#define NMsAutDisplay_BYTE 0 /* Displays are permitted */
#define NMsAutDisplay_MASK 0x80U
#define NMsAutControl_BYTE 0 /* Controls are permitted */
#define NMsAutControl_MASK 0x40U

/* Section 6.20, 68 bytes. */
typedef struct NMsecCaller {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsCalUid[4];                /*   4: u32: User number */
    uint8_t NMsCalPid[4];                /*   8: u32: Process that connected */
    char NMsCalUser[32];                 /*  12: User name, blank if the database has none */
    char NMsCalSystem[24];               /*  44: System of the daemon: the third qualifier of every resource */
} NMsecCaller;
NMSEC_SIZE(NMsecCaller, 68);
#define NMsCalSuperuser_BYTE 0 /* What no profile covers is permitted: uid 0, or BPX.SUPERUSER */
#define NMsCalSuperuser_MASK 0x80U

/* Section 6.21, 424 bytes. */
typedef struct NMsecEvent {
    uint8_t NMsEvtSequence[8];           /*   0: u64: Number of the event, from 1 since the daemon started; all kinds and stacks are counted */
    uint8_t NMsEvtLost[8];               /*   8: u64: Events before this one that this subscriber did not read in time, since its last one */
    uint8_t NMsEvtTime[4];               /*  16: time, u32: When it happened */
    uint8_t NMsEvtKind[2];               /*  20: u16: What happened, section 8.14 */
    uint8_t NMsFlags22[2];               /*  22: bits, see below */
    char NMsEvtStack[24];                /*  24: Stack */
    char NMsEvtTunnelID[48];             /*  48: Tunnel ID */
    char NMsEvtParentID[48];             /*  96: Dynamic tunnel: ID of its IKE tunnel */
    char NMsEvtRule[48];                 /* 144: IKE tunnel: KeyExchangeRule. Dynamic tunnel: IpFilterRule */
    uint8_t NMsEvtLclAddr[16];           /* 192: addr: Local endpoint, or the DVIPA */
    uint8_t NMsEvtRmtAddr[16];           /* 208: addr: Remote endpoint */
    uint8_t NMsEvtInSPI[4];              /* 224: u32: Inbound SPI of a dynamic tunnel */
    uint8_t NMsEvtOutSPI[4];             /* 228: u32: Outbound SPI of a dynamic tunnel */
    uint8_t NMsEvtGeneration[4];         /* 232: u32: SA number within the tunnel */
    uint8_t NMsEvtRsvd2[4];              /* 236: Reserved */
    uint8_t NMsEvtEpoch[8];              /* 240: u64: Epoch of the owner of a DVIPA */
    char NMsEvtOwner[24];                /* 248: New owner of a DVIPA, blank if nobody is known */
    char NMsEvtFrom[24];                 /* 272: Owner before */
    char NMsEvtReason[128];              /* 296: Why, or what is to be said beside */
} NMsecEvent;
NMSEC_SIZE(NMsecEvent, 424);
#define NMsEvtIPv6_BYTE 22 /* Addresses are IPv6 */
#define NMsEvtIPv6_MASK 0x80U

/* Section 6.22, 40 bytes. */
typedef struct NMsecDefensive {
    uint8_t NMsDefStacks[4];             /*   0: u32: Global filter: stacks that have a copy of it now */
    uint8_t NMsDefLifetime[4];           /*   4: u32: Minutes for which it was to live, since it was added or its lifetime was changed */
    char NMsDefUser[32];                 /*   8: User that added it, blank if the database had none */
} NMsecDefensive;
NMSEC_SIZE(NMsecDefensive, 40);

/* Section 7.3, 240 bytes. */
typedef struct NMsecDefensiveControl {
    uint8_t NMsFlags0[1];                /*   0: bits, see below */
    uint8_t NMsFlags1[3];                /*   1: bits, see below */
    char NMsDctName[48];                 /*   4: Name */
    uint8_t NMsDctAction;                /*  52: 4 block, 5 simulate */
    uint8_t NMsDctDirection;             /*  53: 1 inbound, 2 outbound */
    uint8_t NMsDctScope;                 /*  54: 1 local, 2 routed, 3 both */
    uint8_t NMsDctProtocol;              /*  55: IP protocol number; 0 with ProtoAny */
    uint8_t NMsDctSrcPrefix;             /*  56: Prefix length of the source, 0..32 or 0..128; 32 or 128 = one address */
    uint8_t NMsDctDstPrefix;             /*  57: Prefix length of the destination */
    uint8_t NMsDctType;                  /*  58: Type of ICMP or ICMPv6 */
    uint8_t NMsDctCode;                  /*  59: Code of ICMP or ICMPv6 */
    uint8_t NMsDctSrcAddr[16];           /*  60: addr: Source address or prefix */
    uint8_t NMsDctDstAddr[16];           /*  76: addr: Destination address or prefix */
    uint8_t NMsDctSrcPortLo[2];          /*  92: u16: Source port, low; 0 to 65535 is any */
    uint8_t NMsDctSrcPortHi[2];          /*  94: u16: Source port, high */
    uint8_t NMsDctDstPortLo[2];          /*  96: u16: Destination port, low */
    uint8_t NMsDctDstPortHi[2];          /*  98: u16: Destination port, high */
    uint8_t NMsDctLogLimit[2];           /* 100: u16: Lines in five minutes, on average; 0: as many as the stack writes about anything */
    uint8_t NMsDctStatus;                /* 102: 0 in a request; in a response the result */
    uint8_t NMsDctRsvd2[1];              /* 103: Reserved */
    uint8_t NMsDctLifetime[4];           /* 104: u32: Minutes from now */
    uint8_t NMsDctStacks[4];             /* 108: u32: In a response the stacks that it was done at */
    char NMsDctReason[128];              /* 112: Blank in a request; in a response why, where there is more to say than the status does */
} NMsecDefensiveControl;
NMSEC_SIZE(NMsecDefensiveControl, 240);
#define NMsDctIPv6_BYTE 0 /* Addresses are IPv6 */
#define NMsDctIPv6_MASK 0x80U
#define NMsDctBoth_BYTE 0 /* All addresses of both families; the address fields are zero */
#define NMsDctBoth_MASK 0x40U
#define NMsDctFragOnly_BYTE 0 /* Matches fragments only */
#define NMsDctFragOnly_MASK 0x20U
#define NMsDctProtoAny_BYTE 0 /* Any protocol */
#define NMsDctProtoAny_MASK 0x10U
#define NMsDctTypeAny_BYTE 0 /* Any type of ICMP or ICMPv6 */
#define NMsDctTypeAny_MASK 0x08U
#define NMsDctCodeAny_BYTE 0 /* Any code of ICMP or ICMPv6 */
#define NMsDctCodeAny_MASK 0x04U
#define NMsDctByAction_BYTE 0 /* `NMsDctAction` is given */
#define NMsDctByAction_MASK 0x02U
#define NMsDctByLog_BYTE 0 /* `NMsDctLog` is given */
#define NMsDctByLog_MASK 0x01U
#define NMsDctByLogLimit_BYTE 1 /* `NMsDctLogLimit` is given */
#define NMsDctByLogLimit_MASK 0x80U
#define NMsDctByLifetime_BYTE 1 /* `NMsDctLifetime` is given */
#define NMsDctByLifetime_MASK 0x40U
#define NMsDctLog_BYTE 1 /* Matches are logged */
#define NMsDctLog_MASK 0x20U

/* Section 7, 100 bytes. */
typedef struct NMsecTunnel {
    char NMsTunName[48];                 /*   0: Manual tunnel: IpManVpnAction; dynamic tunnel: LocalDynVpnRule; IKE tunnel: KeyExchangeRule. Blank if not given */
    char NMsTunTunnelID[48];             /*  48: Tunnel ID. Blank if not given */
    uint8_t NMsTunStatus;                /*  96: 0 in a request; in a response the result */
    uint8_t NMsTunRsvd1[3];              /*  97: Reserved */
} NMsecTunnel;
NMSEC_SIZE(NMsecTunnel, 100);

/* Section 7, 4 bytes. */
typedef struct NMsecLoadPolicy {
    uint8_t NMsPolFilterSet;             /*   0: Filter set to put in force */
    uint8_t NMsPolRsvd1[3];              /*   1: Reserved */
} NMsecLoadPolicy;
NMSEC_SIZE(NMsecLoadPolicy, 4);

/* Section 7.1, 176 bytes. */
typedef struct NMsecVipaControl {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsVctDVIPA[16];             /*   4: addr: The DVIPA */
    char NMsVctStack[24];                /*  20: MOVE: the stack that is to own it. QUIESCE and RESUME: the target */
    uint8_t NMsVctStatus;                /*  44: 0 in a request; in a response the result */
    uint8_t NMsVctRsvd2[3];              /*  45: Reserved */
    char NMsVctReason[128];              /*  48: Blank in a request; in a response why, where there is more to say than the status does */
} NMsecVipaControl;
NMSEC_SIZE(NMsecVipaControl, 176);
#define NMsVctByDVIPA_BYTE 0 /* `NMsVctDVIPA` is given */
#define NMsVctByDVIPA_MASK 0x80U
#define NMsVctIPv6_BYTE 0 /* The DVIPA is IPv6 */
#define NMsVctIPv6_MASK 0x40U

/* Section 7.2, 8 bytes. */
typedef struct NMsecSubscription {
    uint8_t NMsSubKinds[4];              /*   0: u32: The sum of 2 to the power of each kind that is wanted; 0: all, those of later versions too */
    uint8_t NMsSubRsvd1[4];              /*   4: Reserved */
} NMsecSubscription;
NMSEC_SIZE(NMsecSubscription, 8);

/* Section 6.23, 48 bytes. */
typedef struct NMsecTestPacket {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsTpkSource[16];            /*   4: addr: Source address of the packet */
    uint8_t NMsTpkDest[16];              /*  20: addr: Destination address of the packet */
    uint8_t NMsTpkProtocol;              /*  36: IP protocol */
    uint8_t NMsTpkDirection;             /*  37: 1 inbound, 2 outbound; 0: both, each on its own */
    uint8_t NMsTpkSecClass;              /*  38: Security class of the interface, 0 = not given */
    uint8_t NMsTpkRsvd2[1];              /*  39: Reserved */
    uint8_t NMsTpkSrcPort[2];            /*  40: u16: Source port of TCP, UDP or SCTP, 0 = not given. Of a client behind a NAT its own port or the translated one */
    uint8_t NMsTpkDstPort[2];            /*  42: u16: Destination port, in the same way */
    uint8_t NMsTpkType;                  /*  44: ICMP or ICMPv6 type */
    uint8_t NMsTpkCode;                  /*  45: ICMP or ICMPv6 code */
    uint8_t NMsTpkRsvd3[2];              /*  46: Reserved */
} NMsecTestPacket;
NMSEC_SIZE(NMsecTestPacket, 48);
#define NMsTpkIPv6_BYTE 0 /* Both addresses are IPv6 */
#define NMsTpkIPv6_MASK 0x80U
#define NMsTpkTyped_BYTE 0 /* `NMsTpkType` and `NMsTpkCode` are given */
#define NMsTpkTyped_MASK 0x40U

/* Section 6.23, 64 bytes. */
typedef struct NMsecVerdict {
    uint8_t NMsFlags0[4];                /*   0: bits, see below */
    uint8_t NMsVdtTreatment;             /*   4: What becomes of an outbound packet, or how an inbound one has to come: 1 in clear, 2 denied, 3 by an SA, 4 dropped because there is no SA, 5 an SA is negotiated on demand */
    uint8_t NMsVdtRsvd2[3];              /*   5: Reserved */
    char NMsVdtTunnelID[48];             /*   8: Tunnel, blank if none serves it */
    uint8_t NMsVdtInSPI[4];              /*  56: u32: Inbound SPI of the SAs that the tunnel sends with now, 0 if none serves it */
    uint8_t NMsVdtOutSPI[4];             /*  60: u32: Outbound SPI of these SAs */
} NMsecVerdict;
NMSEC_SIZE(NMsecVerdict, 64);
#define NMsVdtCertain_BYTE 0 /* The filter decides whatever the request left open: ports, type, security class, fragments, the first segment of a connection */
#define NMsVdtCertain_MASK 0x80U

#endif
