/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How FUSE messages pass between the monitor and wisp-fs, the process that serves one shared folder: a SOCK_SEQPACKET
 * socket for messages, and a pipe in each direction for what is too long for one. A pipe takes pages of a file, and
 * gives them, without a copy.
 *
 * A request is one message: a struct fs_frame and the beginning of the FUSE request. If the request is longer, its last
 * `piped` bytes are in the request pipe. A reply is one message, which begins with struct fuse_out_header. If the
 * length in there is more than the message has, the rest is in the reply pipe, also if it says an error. Requests with
 * room for a reply are answered in order, each exactly once; the others never.
 *
 * The reply to an OPEN or CREATE may carry the descriptor of the file (SCM_RIGHTS), if its handle is at most
 * FS_DIRECT_FILES. Such a reply is one message. READs and WRITEs of that handle then need not be passed on, until the
 * reply to its RELEASE, or to an INIT or DESTROY.
 *
 * For snapshots, the monitor sends a struct fs_table_message, which is shorter than any request, when no request waits
 * for a reply. FS_SAVE asks for a table of what the guest knows (vmm/fs/table.h). FS_RESTORE gives a new wisp-fs such a
 * table. The answer is a struct fs_table_reply. The table itself follows the reply, or the message, in messages of at
 * most FS_TABLE_PIECE bytes.
 */
#ifndef WISP_FS_WIRE_H
#define WISP_FS_WIRE_H

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_frame {
	uint32_t room;  /* bytes that the reply may have: 0, or at least those of its header */
	uint32_t piped; /* bytes of the request in the pipe */
};

#define FS_INLINE_MAX 8192u /* bytes of FUSE in a message; a longer reply has only its header there */
#define FS_SPLIT 80u        /* of a longer request, the bytes in the message: a write's headers */
#define FS_DATA_MAX (256u << 10)
#define FS_REQUEST_MAX (FS_DATA_MAX + 4096u)
#define FS_REPLY_MAX (FS_DATA_MAX + 4096u)

#define FS_DIRECT_FILES 128u

enum fs_table_op { FS_SAVE = 1, FS_RESTORE };

struct fs_table_message {
	uint32_t op;
	uint32_t size; /* bytes of the table; 0 for FS_SAVE */
};

struct fs_table_reply {
	int32_t error; /* 0 or -errno */
	uint32_t size; /* bytes of the table; 0 for FS_RESTORE */
};

/*
 * Whether a WRITE goes to the file's end, wherever that is by then, which is wisp-fs's to do. Pages of a mapping have
 * their place, also if the file was opened to append.
 */
static inline bool fs_appends(const struct fuse_write_in *in)
{
	return in->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE);
}

/* Room for all that a guest may know, if its names are not long (vmm/fs/table.c). Most tables are far smaller. */
#define FS_TABLE_MAX (128u << 20)
#define FS_TABLE_PIECE (64u << 10)

/*
 * For both ends. The calls block, and continue after a signal. They return -errno on failure, -EPIPE if the other end
 * is gone. More than FS_TABLE_PIECE bytes are sent in pieces; `receive_all` receives pieces until it has `size` bytes.
 */
int fs_wire_send(int socket, const void *data, size_t size);
int fs_wire_receive_all(int socket, void *to, size_t size);
/* Receives one message. Returns its bytes. */
ssize_t fs_wire_receive(int socket, void *to, size_t size);

/* The device of the n-th folder. */
#define FS_TAG "folder%u"

/* The name of a shared file in the folder that wisp-fs makes for it. */
#define FS_FILE_NAME "file"

/* Where wisp-fs finds its descriptors: the socket, both pipes, the folder, and where it tells that it is ready. */
enum { FS_SOCKET_FD = 3, FS_REQUEST_FD, FS_REPLY_FD, FS_FOLDER_FD, FS_STATUS_FD };

#endif
