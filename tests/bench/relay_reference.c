/* The plainest relay that C can be: what comes on port 2i goes out of port 2i+1 to its phone, and the other way round.
 *
 *   relay_reference < legs      a leg a line: HOST PORT TO_HOST TO_PORT; lines 2i and 2i+1 belong together
 *
 * No statistics, no header rewritten, no rule about who may speak: the floor against which our worker is measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 8000 };

static int fds[MOST];
static struct sockaddr_in to[MOST];

int main(void) {
    int n = 0, port, to_port, ep = epoll_create1(0);
    char host[64], to_host[64];
    while (n < MOST && scanf("%63s %d %63s %d", host, &port, to_host, &to_port) == 4) {
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        inet_pton(AF_INET, host, &here.sin_addr);
        to[n] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)to_port)};
        inet_pton(AF_INET, to_host, &to[n].sin_addr);
        fds[n] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (bind(fds[n], (void *)&here, sizeof here)) {
            perror("bind");
            return 1;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)n};
        epoll_ctl(ep, EPOLL_CTL_ADD, fds[n], &event);
        n++;
    }
    puts("ready");
    fflush(stdout);
    static struct epoll_event events[64];
    for (;;) {
        int count = epoll_wait(ep, events, 64, -1);
        for (int i = 0; i < count; i++) {
            unsigned char packet[2048];
            uint32_t leg = events[i].data.u32, other = leg ^ 1;
            struct sockaddr_in from;
            socklen_t size = sizeof from;
            ssize_t got = recvfrom(fds[leg], packet, sizeof packet, 0, (void *)&from, &size);
            if (got > 0) sendto(fds[other], packet, (size_t)got, 0, (void *)&to[other], sizeof to[other]);
        }
    }
}
