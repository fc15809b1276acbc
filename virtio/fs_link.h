/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages between the file system device and wisp-fs (vmm/shared/fs_wire.h). Requests are sent in the order in
 * which they are added, as many in a message as are there, and answered in this order. The reply is put into the
 * guest's buffers, where nobody looks at it.
 *
 * wisp-fs is not trusted: whatever does not answer the oldest request, within the room that it has, ends the link. Then
 * and when wisp-fs has ended, every request fails.
 */
#ifndef WISP_VIRTIO_FS_LINK_H
#define WISP_VIRTIO_FS_LINK_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "virtio/device.h"
#include "vmm/shared/fs_wire.h"

struct fs_link;

/* A request. All but `next` and `told` is its owner's to fill in. */
struct fs_message {
	struct fs_message *next;
	struct {
		struct fs_frame frame;
		struct fuse_in_header header;
	} head;                 /* as it is sent */
	struct iovec *out;      /* what follows the header, in the guest's memory; is consumed */
	const struct iovec *in; /* room for the reply, at least frame.room bytes */
	unsigned out_count, in_count;
	bool told; /* its message is sent, and a part of it is for the pipe */
};

/* As much of a reply as may come with a file. */
struct fs_reply {
	struct fuse_out_header header;
	uint8_t body[sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)];
};

/* What its owner does. Each message ends with one call of `sent`, `replied` or `failed`, and is then the owner's. */
struct fs_link_owner {
	/* It is on its way, and gets no reply. */
	void (*sent)(struct fs_message *m);
	/*
	 * The guest has its reply. The beginning of that is in `reply`: all, if fs_reply_matters. Takes over `file`,
	 * which came with it, or is -1.
	 */
	void (*replied)(struct fs_message *m, const struct fs_reply *reply, int file);
	/* There is no wisp-fs. */
	void (*failed)(struct fs_message *m);
	/* More may be added again: there is room, or the link has ended. */
	void (*ready)(struct fs_link *link);
	/* It has ended, for this reason. */
	void (*lost)(struct fs_link *link, const char *why);
};

struct fs_link {
	struct loop *loop;
	const struct fs_link_owner *owner;
	int socket, requests, replies;
	bool lost; /* there is no wisp-fs any more */

	struct fs_message *unsent, **unsent_end;
	unsigned unsent_count;
	bool polling; /* for room: `send_op` is in flight */
	struct loop_op send_op;

	struct fs_message *oldest, **end; /* of those that wait for replies */
	bool receiving;                   /* `receive_op` is in flight */
	struct loop_op receive_op;
	struct msghdr message;
	struct iovec in;
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	uint32_t received; /* bytes of the oldest one's reply; 0: a message is to come */
	struct fs_reply reply;
	struct iovec rest[VIRTQ_SIZE_MAX]; /* room for what is left of it */
	uint8_t inbox[FS_INLINE_MAX];
};

/* The descriptors stay the caller's, and are -1 so far. */
void fs_link_init(struct fs_link *link, struct loop *loop, const struct fs_link_owner *owner);

/* Adds a request, not while fs_link_is_full. It is sent with the next call of fs_link_send, or before. */
void fs_link_add(struct fs_link *link, struct fs_message *m);

/* Sends what was added. */
void fs_link_send(struct fs_link *link);

/* Requests that were added wait for room: no more are to be added before `ready`. */
bool fs_link_is_full(const struct fs_link *link);

/* Neither a message nor the kernel uses a buffer of the guest. */
bool fs_link_is_idle(const struct fs_link *link);

/* Ends it: what is in flight fails once the kernel is done with it. */
void fs_link_end(struct fs_link *link, const char *why);

/* How many bytes of a reply to this operation `replied` needs, which therefore come in one piece: its header's, or all.
 */
uint32_t fs_reply_matters(uint32_t opcode);

#endif
