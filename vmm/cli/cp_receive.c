/* SPDX-License-Identifier: Apache-2.0 */
/* From the guest to the host: an archive of the guest's tar. cp_unpack.c says why it can do no harm. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cli/cp.h"
#include "vmm/cli/cp_unpack.h"

struct receive {
	struct copy *copy;
	const char *path; /* in the guest */
	int dir_fd;
	const char *from, *to;
	struct cp_file through; /* open if in_place */
};

static size_t read_guest(void *context, void *data, size_t length)
{
	return guest_read(context, data, length);
}

/* Ends the program in the guest: killed if the copy has failed, waited for if not. */
static int end(struct guest *guest, int code, const char *path)
{
	if (code == 0)
		return guest_finish(guest, path);
	guest_abort(guest);
	return code;
}

/* The bytes of a file of the guest as `cat` reads them, to its end, no matter which size it reports. */
static int read_bytes(struct receive *receive, struct cp_file *file)
{
	struct guest guest;
	char buffer[65536];
	size_t n;
	int code = 0;
	const char *argv[] = {"cat", receive->path, NULL};
	if (!guest_start(&guest, receive->copy, argv, false))
		return CLI_EXIT_FAILED;
	while (code == 0 && (n = guest_read(&guest, buffer, sizeof(buffer))) > 0) {
		code = cp_file_write(file, buffer, n);
		progress_add(&receive->copy->progress, n);
	}
	return end(&guest, code, receive->path);
}

static int receive_bytes(struct receive *receive, mode_t mode, int64_t mtime)
{
	struct cp_file file;
	if (receive->through.in_place)
		return read_bytes(receive, &receive->through);
	int code = cp_file_create(&file, receive->dir_fd, receive->to, receive->to);
	if (code == 0)
		code = read_bytes(receive, &file);
	if (code == 0)
		code = cp_file_commit(&file, mode, mtime);
	cp_file_destroy(&file);
	return code;
}

static int receive_archive(struct receive *receive, const char *guest_dir)
{
	struct guest guest;
	const char *argv[] = {"tar", "-cf", "-", "-C", guest_dir, "--", receive->from, NULL};
	if (!guest_start(&guest, receive->copy, argv, false))
		return CLI_EXIT_FAILED;
	struct unpack unpack = {
	        .reader = {.read = read_guest, .context = &guest},
	        .progress = &receive->copy->progress,
	        .root_fd = receive->dir_fd,
	        .from = receive->from,
	        .to = receive->to,
	        .through = receive->through.in_place ? &receive->through : NULL,
	};
	int code = unpack_archive(&unpack);
	/* If the archive is cut short, the guest's own message says more than ours, if there is one. */
	bool cut = code < 0;
	code = end(&guest, cut ? 0 : code, receive->path);
	if (code == 0 && cut)
		return cli_fail(
		        "%s: %s%s", receive->path, unpack.reader.what, unpack.entries ? "" : " and holds nothing");
	if (code == 0 && unpack.entries == 1 && unpack.last.type == '0' && unpack.last.size == 0)
		code = receive_bytes(receive, unpack_mode(unpack.last.mode), unpack.last.mtime);
	return code;
}

/* Files of /proc and /sys report sizes that are not theirs, which no archive can hold. */
static int receive_pseudo(struct receive *receive)
{
	int kind = guest_kind(receive->copy, receive->path);
	mode_t mask = umask(0);
	umask(mask);
	if (kind < 0)
		return -kind;
	if (kind == 'd')
		return cli_fail("%s: files of /proc and /sys have no true sizes; copy them one by one", receive->path);
	return receive_bytes(receive, 0666 & ~mask, time(NULL));
}

/* What exists and is not a plain file is written to in place: a device, a FIFO, the target of a link. */
static int open_through(struct receive *receive)
{
	struct stat st;
	char *path;
	if (fstatat(receive->dir_fd, receive->to, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISREG(st.st_mode))
		return 0;
	if (fstatat(receive->dir_fd, receive->to, &st, 0) < 0)
		return cli_fail("%s is a link that leads nowhere; remove it first", receive->to);
	if (S_ISDIR(st.st_mode))
		return 0;
	if (asprintf(&path, "/proc/self/fd/%d/%s", receive->dir_fd, receive->to) < 0)
		return cli_fail("out of memory");
	int code = cp_file_open(&receive->through, path, receive->copy->signals);
	receive->through.show = receive->to;
	free(path);
	return code;
}

int cp_receive(struct copy *copy, const char *guest_path, const char *destination, bool into)
{
	const char *from, *to;
	char *guest_dir = cp_split(guest_path, &from), *dir = NULL;
	if (!guest_dir)
		return cli_fail("out of memory");
	if (!from[0])
		from = "."; /* the root directory of the guest */
	if (into) {
		dir = strdup(destination);
		to = from;
	} else {
		dir = cp_split(destination, &to);
	}
	struct receive receive = {
	        .copy = copy, .path = guest_path, .from = from, .to = to, .dir_fd = -1, .through = {.fd = -1}};
	receive.dir_fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	bool pseudo = strncmp(guest_path, "/proc/", 6) == 0 || strncmp(guest_path, "/sys/", 5) == 0;
	int code;
	if (receive.dir_fd < 0)
		code = cli_fail("cannot open the directory %s: %s", dir ? dir : destination, strerror(errno));
	else
		code = open_through(&receive);
	if (code == 0) {
		progress_begin(&copy->progress, copy->quiet, 0);
		code = pseudo ? receive_pseudo(&receive) : receive_archive(&receive, guest_dir);
		progress_end(&copy->progress);
	}
	if (code == 0 && receive.through.in_place)
		code = cp_file_commit(&receive.through, 0, 0);
	cp_file_destroy(&receive.through);
	if (receive.dir_fd >= 0)
		close(receive.dir_fd);
	free(guest_dir);
	free(dir);
	return code;
}
