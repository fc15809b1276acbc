/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that wisp-fs has opened for the guest and passed to the device (vmm/shared/fs_wire.h). What the guest reads and
 * writes of them goes between the file and the guest's memory, in one copy, and past wisp-fs.
 *
 * Nothing here gives the guest more than wisp-fs would: a file is one that the guest has opened, with the rights that
 * it was opened with. Which descriptors come is wisp-fs's to say, which is not trusted: only those of regular files are
 * taken, and no reply is needed from one.
 */
#ifndef WISP_VIRTIO_FS_DIRECT_H
#define WISP_VIRTIO_FS_DIRECT_H

#include <linux/fuse.h>
#include <sys/socket.h>

#include "virtio/device.h"
#include "vmm/shared/fs_wire.h"

struct fs_file {
	int fd;         /* -1: none */
	unsigned users; /* transfers in flight: the descriptor stays open for them */
	bool released;  /* no others may begin */
};

struct fs_direct {
	struct loop *loop;
	bool ending;
	struct fs_file file[FS_DIRECT_FILES]; /* by the guest's handle, from 1 on */
};

/* One READ or WRITE. */
struct fs_transfer {
	struct fs_direct *direct;
	struct fs_file *file; /* NULL: not in flight */
	struct iovec *iov;    /* what is left of the guest's buffers */
	unsigned count;
	uint64_t offset;
	uint32_t done; /* bytes */
	int error;     /* 0 or -errno */
	bool writes;
	struct loop_op op;
	void (*finished)(struct fs_transfer *transfer);
};

/* As much of a reply as may come with a file. */
struct fs_reply {
	struct fuse_out_header header;
	uint8_t body[sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)];
};

void fs_direct_init(struct fs_direct *direct, struct loop *loop);

/* Takes over the descriptor of the handle `fh`, which the guest has from now on; or closes it. */
void fs_direct_add(struct fs_direct *direct, uint64_t fh, int fd);

/* How many bytes of a reply to this operation are looked at: its header, or all, if a file may come with it. */
uint32_t fs_direct_looks_at(uint32_t opcode);

/* The file that came with a message, or -1. */
int fs_direct_take(struct msghdr *message);

/* The guest gets this reply; `fh` is the handle that its request has released. Takes over `file`, if it is not -1. */
void fs_direct_replied(struct fs_direct *direct, uint32_t opcode, uint64_t fh, const struct fs_reply *reply, int file);

/* The guest has closed the handle; or all of them. */
void fs_direct_release(struct fs_direct *direct, uint64_t fh);
void fs_direct_release_all(struct fs_direct *direct);

/* The end: transfers in flight are cancelled as far as the kernel can. Those finish all the same. */
void fs_direct_cancel(struct fs_direct *direct, struct fs_transfer *transfer);

/*
 * Starts the request, whose header is `header`, if it is a transfer of a file that is here, and its buffers are laid
 * out as Linux does it. `transfer` and the chain's buffers are then in use until transfer->finished. False: nothing has
 * happened.
 */
bool fs_direct_start(struct fs_direct *direct, const struct fuse_in_header *header, struct virtq_chain *chain,
        struct fs_transfer *transfer);

#endif
