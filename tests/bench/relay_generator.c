/* Many phones in one thread: each has a socket, says an RTP packet each 20 ms and measures what comes back.
 *
 *   relay_generator CPU WARM_S MEASURE_S < phones        a phone a line: HOST PORT TO_HOST TO_PORT
 *
 * The time of sending is in the payload; the time of arrival is the kernel's, so that the generator's own waiting is not
 * counted as delay. Phones are spread evenly over the 20 ms. Says "ready" before it begins, and one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_NS = 20000000, PACKET = 172, BINS = 1000000, MOST = 8000 };

struct phone {
    int fd;
    uint16_t sequence;
    uint32_t stamp, ssrc;
};

static struct phone phones[MOST];
static uint32_t delay_us[BINS + 1];
static uint64_t sent, received, window_from, window_to, worst_ns;

static uint64_t nanoseconds(const struct timespec *t) { return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec; }

static uint64_t wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return nanoseconds(&t);
}

static void say(struct phone *p, uint64_t now) {
    unsigned char packet[PACKET];
    uint16_t sequence = htons(p->sequence++);
    uint32_t stamp = htonl(p->stamp), ssrc = htonl(p->ssrc);
    p->stamp += 160;
    packet[0] = 0x80;
    packet[1] = 0;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &stamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    memset(packet + 12, 0xff, PACKET - 12);
    memcpy(packet + 12, &now, 8);
    if (send(p->fd, packet, PACKET, 0) == PACKET && now >= window_from && now < window_to) sent++;
}

static void hear(struct phone *p) {
    for (;;) {
        unsigned char packet[512], control[128];
        struct iovec part = {packet, sizeof packet};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        uint64_t said, at = 0;
        if (recvmsg(p->fd, &message, MSG_DONTWAIT) < PACKET) return;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec t;
                memcpy(&t, CMSG_DATA(c), sizeof t);
                at = nanoseconds(&t);
            }
        memcpy(&said, packet + 12, 8);
        if (said < window_from || said >= window_to || at < said) continue;
        received++;
        uint64_t delay = at - said;
        if (delay > worst_ns) worst_ns = delay;
        delay /= 1000;
        delay_us[delay < BINS ? delay : BINS]++;
    }
}

static void hear_all(int ep, int wait_ms) {
    static struct epoll_event events[512];
    int count;
    do {
        count = epoll_wait(ep, events, 512, wait_ms);
        for (int i = 0; i < count; i++) hear(&phones[events[i].data.u32]);
        wait_ms = 0;
    } while (count == 512);
}

static int quantile(double part) {
    uint64_t want = (uint64_t)(part * (double)received), seen = 0;
    for (int i = 0; i <= BINS; i++) {
        seen += delay_us[i];
        if (seen > want) return i;
    }
    return 0;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(words[1]), &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    int ep = epoll_create1(0), n = 0, port, to_port, on = 1, room = 1 << 20;
    char host[64], to_host[64];
    while (n < MOST && scanf("%63s %d %63s %d", host, &port, to_host, &to_port) == 4) {
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}, there = here;
        inet_pton(AF_INET, host, &here.sin_addr);
        inet_pton(AF_INET, to_host, &there.sin_addr);
        there.sin_port = htons((uint16_t)to_port);
        struct phone *p = &phones[n];
        p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        p->ssrc = 0x10000u + (uint32_t)n;
        setsockopt(p->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        if (bind(p->fd, (void *)&here, sizeof here) || connect(p->fd, (void *)&there, sizeof there)) {
            fprintf(stderr, "%s:%d: %s\n", host, port, strerror(errno));
            return 1;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)n};
        epoll_ctl(ep, EPOLL_CTL_ADD, p->fd, &event);
        n++;
    }
    if (!n) return 2;
    puts("ready");
    fflush(stdout);
    uint64_t start = wall(), worst_slip = 0;
    window_from = start + (uint64_t)(atof(words[2]) * 1e9);
    window_to = window_from + (uint64_t)(atof(words[3]) * 1e9);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (uint64_t turn = 0, i = 0;;) {
        uint64_t due = start + turn * FRAME_NS + i * FRAME_NS / (uint64_t)n, now = wall();
        if (now >= window_to) break;
        if (now < due) {
            hear_all(ep, 0);
            now = wall();
            if (due > now + 50000) {
                struct timespec rest = {0, (long)(due - now > 200000 ? 150000 : due - now - 40000)};
                nanosleep(&rest, NULL);
            }
            continue;
        }
        if (now >= window_from && now - due > worst_slip) worst_slip = now - due;
        say(&phones[i], now);
        if (i % 16 == 15) hear_all(ep, 0);
        if (++i == (uint64_t)n) i = 0, turn++;
    }
    getrusage(RUSAGE_SELF, &after);
    for (uint64_t end = wall() + 500000000u; wall() < end;) hear_all(ep, 5);
    double cpu = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
                 (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
    printf("{\"phones\":%d,\"sent\":%lu,\"received\":%lu,\"p50_us\":%d,\"p99_us\":%d,\"p999_us\":%d,\"max_us\":%lu,"
           "\"slip_ms\":%.2f,\"cpu_s\":%.2f}\n",
           n, sent, received, quantile(.5), quantile(.99), quantile(.999), worst_ns / 1000, (double)worst_slip / 1e6, cpu);
    return 0;
}
