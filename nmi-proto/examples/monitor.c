/*
 * A monitor of the management interface in C: the stacks, their tunnels and packets, and their DVIPAs.
 *
 *     cc -std=c11 -I ../include -o monitor monitor.c && ./monitor /var/sock/ipsecmgmt
 *
 * It needs nmsec.h and POSIX only. Everything that comes from the socket is checked before it is used: lengths
 * against what was received, sections against their record. Exit status: 0 done, 1 failed, 3 not permitted.
 */
#include "nmsec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* More than any answer that this monitor asks for. */
#define MAX_MESSAGE (64U << 20)

typedef struct Message {
    uint8_t *bytes;
    size_t length;
} Message;

static int read_all(int fd, uint8_t *to, size_t length)
{
    while (length > 0) {
        ssize_t n = read(fd, to, length);
        if (n <= 0)
            return -1;
        to += n;
        length -= (size_t)n;
    }
    return 0;
}

static int write_all(int fd, const uint8_t *from, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, from, length);
        if (n <= 0)
            return -1;
        from += n;
        length -= (size_t)n;
    }
    return 0;
}

/* The next message; the caller frees its bytes. INIT and TERM may be in the daemon's own code page. */
static int receive(int fd, Message *m)
{
    uint8_t prefix[16];
    if (read_all(fd, prefix, sizeof prefix) != 0)
        return -1;
    if (memcmp(prefix, NMSEC_MESSAGE_IDENT_ASCII, 4) != 0 && memcmp(prefix, NMSEC_MESSAGE_IDENT_EBCDIC, 4) != 0)
        return -1;
    m->length = nmsec_u32(prefix + 12);
    if (m->length < sizeof(NMsecMessageHdr) || m->length > MAX_MESSAGE)
        return -1;
    m->bytes = malloc(m->length);
    if (m->bytes == NULL)
        return -1;
    memcpy(m->bytes, prefix, sizeof prefix);
    if (read_all(fd, m->bytes + sizeof prefix, m->length - sizeof prefix) != 0) {
        free(m->bytes);
        return -1;
    }
    return 0;
}

static void put_text(char *field, size_t width, const char *text)
{
    size_t length = strlen(text);
    memset(field, ' ', width);
    memcpy(field, text, length < width ? length : width);
}

/* A text field without its blanks at the end. Two buffers take turns. */
static const char *text(const char *field, size_t width)
{
    static char buffers[2][256];
    static unsigned turn;
    char *out = buffers[turn++ % 2];
    if (width >= sizeof buffers[0])
        width = sizeof buffers[0] - 1;
    memcpy(out, field, width);
    while (width > 0 && out[width - 1] == ' ')
        width--;
    out[width] = '\0';
    return out;
}

/* Asks a display request without records, in ASCII: the answer is in ASCII too. */
static int ask(int fd, uint16_t type, const char *stack, Message *answer)
{
    NMsecMessageHdr h;
    memset(&h, 0, sizeof h);
    memcpy(h.NMsMIdent, NMSEC_MESSAGE_IDENT_ASCII, 4);
    nmsec_put_u32(h.NMsMHdrLength, sizeof h);
    nmsec_put_u16(h.NMsMVersion, NMsec_VERSION1);
    nmsec_put_u16(h.NMsMType, type);
    nmsec_put_u32(h.NMsMLength, sizeof h);
    put_text(h.NMsMTarget, sizeof h.NMsMTarget, stack);
    if (write_all(fd, (const uint8_t *)&h, sizeof h) != 0 || receive(fd, answer) != 0) {
        fprintf(stderr, "monitor: the connection broke\n");
        return 1;
    }
    const NMsecMessageHdr *a = (const NMsecMessageHdr *)answer->bytes;
    uint32_t rc = nmsec_u32(a->NMsMRc);
    if (nmsec_u16(a->NMsMType) != type || rc != NMsec_RC_OK) {
        fprintf(stderr, "monitor: request %#x: return code %u, reason code %u\n", (unsigned)type, (unsigned)rc,
                (unsigned)nmsec_u32(a->NMsMRsn));
        free(answer->bytes);
        return rc == NMsec_RC_EACCES ? 3 : 1;
    }
    return 0;
}

/* The record at *at, which moves on to the next; NULL at the end or where lengths lie. */
static const uint8_t *next_record(const Message *m, size_t *at, size_t *length)
{
    const uint8_t *r = m->bytes + *at;
    if (m->length - *at < sizeof(NMsecRecordHdr))
        return NULL;
    *length = nmsec_u32(((const NMsecRecordHdr *)r)->NMsRLength);
    if (memcmp(r, NMSEC_RECORD_IDENT_ASCII, 4) != 0 || *length < sizeof(NMsecRecordHdr)
        || *length > m->length - *at)
        return NULL;
    *at += *length;
    return r;
}

/* The first section of a record: by its descriptor, at least `size` bytes. A later version may have more. */
static const void *first_section(const uint8_t *record, size_t length, size_t size)
{
    if (nmsec_u16(((const NMsecRecordHdr *)record)->NMsRNumSec) < 1
        || length < sizeof(NMsecRecordHdr) + sizeof(NMsecSecDesc))
        return NULL;
    const NMsecSecDesc *d = (const NMsecSecDesc *)(record + sizeof(NMsecRecordHdr));
    size_t offset = nmsec_u32(d->NMsSOff);
    if (nmsec_u16(d->NMsSNum) < 1 || nmsec_u16(d->NMsSLen) < size || offset > length || length - offset < size)
        return NULL;
    return record + offset;
}

static size_t records_of(const Message *m)
{
    size_t at = nmsec_u32(((const NMsecMessageHdr *)m->bytes)->NMsMOutRec.NMsMOutOff);
    return at < sizeof(NMsecMessageHdr) || at > m->length ? m->length : at;
}

static void print_address(const uint8_t *a, int ipv6)
{
    if (!ipv6) {
        printf("%u.%u.%u.%u", a[12], a[13], a[14], a[15]);
        return;
    }
    for (unsigned i = 0; i < 16; i += 2)
        printf("%s%x", i == 0 ? "" : ":", (unsigned)nmsec_u16(a + i));
}

static int show_dvipas(int fd, const char *stack)
{
    static const char *states[] = {"unknown", "ACTIVE", "BACKUP", "MOVING", "QUIESCING", "DEACTIVATED", "DEST"};
    Message m;
    int failed = ask(fd, NMsec_GET_DVIPA, stack, &m);
    if (failed != 0)
        return failed;
    size_t at = records_of(&m), length;
    const uint8_t *record;
    while ((record = next_record(&m, &at, &length)) != NULL) {
        const NMsecDVIPA *d = first_section(record, length, sizeof *d);
        if (d == NULL)
            continue;
        printf("  dvipa ");
        print_address(d->NMsDvpAddress, NMSEC_BIT(d, NMsDvpIPv6));
        printf(" %s owner %s epoch %llu%s\n",
               states[d->NMsDvpState < sizeof states / sizeof *states ? d->NMsDvpState : 0],
               text(d->NMsDvpOwner, sizeof d->NMsDvpOwner), (unsigned long long)nmsec_u64(d->NMsDvpEpoch),
               d->NMsDvpCFState >= NMsec_CFSTATE_FAILED ? " NOT PROTECTED" : "");
    }
    free(m.bytes);
    return 0;
}

static int show_stack(int fd, const char *stack)
{
    Message m;
    int failed = ask(fd, NMsec_GET_SUMMARY, stack, &m);
    if (failed != 0)
        return failed;
    size_t at = records_of(&m), length;
    const uint8_t *record = next_record(&m, &at, &length);
    const NMsecStatistics *s = record == NULL ? NULL : first_section(record, length, sizeof *s);
    if (s != NULL)
        printf("stack %s: %u IKE tunnels, %u dynamic tunnels, %llu packets permitted, %llu denied\n", stack,
               (unsigned)nmsec_u32(s->NMsStatP1Active), (unsigned)nmsec_u32(s->NMsStatP2Active),
               (unsigned long long)nmsec_u64(s->NMsStatPktPermit),
               (unsigned long long)nmsec_u64(s->NMsStatPktDeny));
    free(m.bytes);
    return s == NULL ? 1 : show_dvipas(fd, stack);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : NMSEC_SOCKET_PATH;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path) {
        fprintf(stderr, "monitor: the path is too long\n");
        return 1;
    }
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&name, sizeof name) != 0) {
        perror(path);
        return 1;
    }
    /* INIT comes as soon as the daemon has a policy; TERM in its place says why there is no service. */
    Message init;
    if (receive(fd, &init) != 0 || nmsec_u16(((const NMsecMessageHdr *)init.bytes)->NMsMType) != NMsec_INIT) {
        fprintf(stderr, "monitor: the daemon does not serve us\n");
        return 1;
    }
    free(init.bytes);

    Message stacks;
    int failed = ask(fd, NMsec_GET_STACKINFO, "", &stacks);
    if (failed != 0)
        return failed;
    size_t at = records_of(&stacks), length;
    const uint8_t *record;
    while (failed == 0 && (record = next_record(&stacks, &at, &length)) != NULL) {
        const NMsecStack *s = first_section(record, length, sizeof *s);
        char stack[sizeof s->NMsStackName + 1];
        if (s == NULL)
            continue;
        strcpy(stack, text(s->NMsStackName, sizeof s->NMsStackName));
        failed = show_stack(fd, stack);
    }
    free(stacks.bytes);
    close(fd);
    return failed;
}
