/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a network device whose peer is a stream, call by call. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fail_call.h"
#include "tests/unit/test.h"
#include "virtio/net_port.h"

#define LENGTH 4u
#define OLD 60u /* bytes of the frame that is given up */
#define NEW 77u

static uint8_t frame[NET_HEADER + NEW];
static const struct virtq_chain chain = {
        .readable = 1, .readable_bytes = sizeof(frame), .iov = {{frame, sizeof(frame)}}};

static bool open_port(struct net_port *port, int *peer, uint32_t sent)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	*port = (struct net_port){.fd = pair[0], .stream = true};
	if (sent > 0) {
		port->sent = sent;
		port->left = LENGTH + OLD - sent;
		port->next.length = htonl(OLD);
	}
	*peer = pair[1];
	return net_port_open(port) == 0;
}

/* Whatever part of a frame was sent, be it of its length: the peer finds the next one behind it. */
static void a_frame_is_given_up(void)
{
	uint8_t got[LENGTH + OLD + LENGTH + NEW + 1];
	uint32_t old = htonl(OLD), new = htonl(NEW);
	memset(frame + NET_HEADER, 0x5a, NEW);
	for (uint32_t sent = 1; sent < LENGTH + OLD; sent++) {
		struct net_port port;
		int peer;
		REQUIRE(open_port(&port, &peer, sent));
		net_port_forget(&port);
		net_port_forget(&port); /* a second reset */
		CHECK_EQ(net_port_send(&port, &chain, 1), 1);
		memcpy(got, &old, LENGTH); /* what it has had of this */
		CHECK_EQ(recv(peer, got + sent, sizeof(got) - sent, MSG_DONTWAIT), (long)(sizeof(got) - 1 - sent));
		CHECK(memcmp(got, &old, LENGTH) == 0);
		CHECK(memcmp(got + LENGTH + OLD, &new, LENGTH) == 0);
		CHECK(memcmp(got + LENGTH + OLD + LENGTH, frame + NET_HEADER, NEW) == 0);
		net_port_close(&port);
		close(peer);
	}
}

/* A host that has no memory at present does not end the network, with a frame given up or without. */
static void no_memory(void)
{
	static const unsigned calls[] = {SYS_sendmsg, SYS_sendto};
	for (uint32_t sent = 0; sent < 2; sent++) {
		struct net_port port;
		int peer, status;
		REQUIRE(open_port(&port, &peer, sent));
		net_port_forget(&port);
		pid_t pid = fork();
		if (pid == 0) {
			if (!make_call_fail(calls[sent], ENOBUFS))
				_exit(2);
			_exit(net_port_send(&port, &chain, 1) != 0);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		net_port_close(&port);
		close(peer);
		if (WEXITSTATUS(status) == 2)
			SKIP("this kernel has no seccomp");
		CHECK_EQ(WEXITSTATUS(status), 0);
	}
}

TEST_MAIN("virtio_net_port", {"a_frame_is_given_up", a_frame_is_given_up}, {"no_memory", no_memory})
