/* SPDX-License-Identifier: Apache-2.0 */
/* fusecheck DIR: a FUSE file system at DIR, which has nothing but its root. Serves it until it is killed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static void reply(int fd, uint64_t unique, int error, const void *body, size_t size)
{
	struct {
		struct fuse_out_header head;
		uint8_t body[256];
	} out = {.head = {.len = (uint32_t)(sizeof(out.head) + size), .error = error, .unique = unique}};
	if (size > 0)
		memcpy(out.body, body, size);
	(void)!write(fd, &out, out.head.len);
}

int main(int argc, char **argv)
{
	static union {
		struct fuse_in_header head;
		uint8_t bytes[FUSE_MIN_READ_BUFFER];
	} in;
	char options[100];
	int fd = open("/dev/fuse", O_RDWR);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (argc != 2 || mount("fusecheck", argv[1], "fuse", 0, options) < 0) {
		perror("fusecheck");
		return 1;
	}
	while (read(fd, &in, sizeof(in)) > 0) {
		const struct fuse_init_out init = {
		        .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 4096};
		const struct fuse_attr_out attributes = {.attr = {.ino = 1, .mode = 040755, .nlink = 2}};
		switch (in.head.opcode) {
		case FUSE_INIT: reply(fd, in.head.unique, 0, &init, sizeof(init)); break;
		case FUSE_GETATTR: reply(fd, in.head.unique, 0, &attributes, sizeof(attributes)); break;
		case FUSE_FORGET: break;
		default: reply(fd, in.head.unique, -ENOENT, NULL, 0);
		}
	}
	return 0;
}
