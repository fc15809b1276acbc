/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-fs: requests of a script, over a folder in /tmp that is made once. Nothing of it is trusted, and nothing but
 * that folder changes. A request that would end wisp-fs (it is not the monitor's) is not made.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/fs/fs.h"
#include "vmm/fs/table.h"

#define RESTORE 0xff /* a byte of the script */

static int folder_fd = -1;
static char folder[] = "/tmp/wisp-fuzz-fs-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void remove_folder(void)
{
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_folder(void)
{
	struct rlimit small = {1 << 20, 1 << 20};
	if (folder_fd >= 0)
		return;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	MUST(mkdtemp(folder));
	atexit(remove_folder);
	folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int list = open(folder, O_RDONLY | O_DIRECTORY);
	MUST(mkdirat(list, "d", 0755) == 0 && symlinkat("/etc/passwd", list, "l") == 0);
	close(openat(list, "f", O_WRONLY | O_CREAT, 0644));
	close(list);
}

/* The requests lie in the socket before the server takes the first: it ends when there are no more. */
static void post(int socket, int pipe_fd, struct input *in)
{
	struct {
		struct fs_frame frame;
		struct fuse_in_header header;
		uint8_t body[512];
	} message;
	uint8_t piped[300] = {0};
	memset(&message, 0, sizeof(message));
	size_t size = in8(in) % 2 ? in16(in) % sizeof(message.body) : in8(in);
	uint32_t more = in8(in) % 8 == 0 ? in8(in) : 0;
	in_bytes(in, message.body, size);
	message.frame = (struct fs_frame){.room = in8(in) % 4 ? 4096 : 0, .piped = more};
	message.header = (struct fuse_in_header){
	        .len = (uint32_t)(sizeof(message.header) + size) + more, .opcode = in8(in) % 52, .nodeid = in8(in) % 6};
	if (message.header.opcode == FUSE_SYNCFS) /* slow, and not of the folder alone */
		message.header.opcode = FUSE_LOOKUP;
	(void)!send(socket, &message, sizeof(message.frame) + sizeof(message.header) + size, MSG_DONTWAIT);
	(void)!write(pipe_fd, piped, more);
}

/* A guest that knows what a forged table says, of which the first part is as it should be. */
static void restore(struct fs *fs, struct input *in)
{
	static uint8_t table[1024];
	struct fs_table head;
	uint8_t *saved;
	(void)in8(in);
	size_t size = in16(in) % sizeof(table);
	MUST(fs_save_table(fs, &saved) > 0);
	memcpy(&head, saved, sizeof(head));
	free(saved);
	memset(table, 0, sizeof(table));
	in_bytes(in, table, size);
	if (in8(in) % 8 != 0) {
		head.generation = 4;
		head.nodes = in8(in) % 4;
		head.handles = in8(in) % 4;
		memcpy(table, &head, sizeof(head));
	}
	int ret = fs_restore_table(fs, table, size);
	MUST(ret == 0 || ret == -EINVAL || ret == -EXDEV || ret == -EMFILE);
	int64_t again = fs_save_table(fs, &saved);
	MUST(again > 0 && fs_restore_table(fs, saved, (size_t)again) == 0);
	free(saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	int sockets[2], requests[2], replies[2];
	struct fs fs;
	open_folder();
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
	MUST(pipe2(requests, O_CLOEXEC) == 0 && pipe2(replies, O_CLOEXEC | O_NONBLOCK) == 0);
	/* With cache=always, every other one; every fourth is of a guest that only reads, too. */
	struct fs_options options = {.socket = sockets[1],
	        .requests = requests[0],
	        .replies = replies[1],
	        .folder = folder_fd,
	        .nodes = 64,
	        .always = size % 2 == 1,
	        .read_only = size % 4 == 3};
	MUST(fs_init(&fs, &options) == 0);
	for (unsigned i = 0; i < 30 && in.left > 0; i++) {
		if (*in.at == RESTORE)
			restore(&fs, &in);
		else
			post(sockets[0], requests[1], &in);
	}
	shutdown(sockets[0], SHUT_WR);
	close(requests[1]);
	MUST(fs_serve(&fs) == 0);
	fs_destroy(&fs);
	close(sockets[0]);
	close(sockets[1]);
	close(requests[0]);
	close(replies[0]);
	close(replies[1]);
	return 0;
}
