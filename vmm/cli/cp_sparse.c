/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file with holes, into the guest. Few guests have a tar that knows holes, and a file of a terabyte with one page of
 * data must cost one page. So a shell script in the guest writes the data, one piece after another, with dd.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/cp.h"

#define UNIT 4096 /* bytes; pieces begin and end at multiples of it */

struct sparse {
	struct copy *copy;
	struct guest guest;
	bool broken; /* the guest takes no more; guest_finish reports why */
};

/*
 * The archive created the file, writable for its owner. A piece is a line, with its first unit and its number of units,
 * and its data. The last piece is padded, and truncate cuts the padding off.
 */
static const char script[] = "while read -r seek count; do\n"
                             "  dd of=\"$1\" bs=4096 seek=$seek count=$count conv=notrunc iflag=fullblock "
                             "2>/dev/null || { echo \"cannot write $1\" >&2; exit 1; }\n"
                             "done\n"
                             "truncate -s \"$2\" \"$1\" && touch -d \"@$3\" \"$1\" && chmod \"$4\" \"$1\"\n";

bool cp_is_sparse(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_size > 1 << 20 && st->st_blocks < st->st_size / 512 * 9 / 10;
}

static void put(struct sparse *sparse, const void *data, size_t length)
{
	if (!sparse->broken && !guest_write(&sparse->guest, data, length))
		sparse->broken = true;
}

static int put_piece(struct sparse *sparse, int fd, const char *source, off_t from, off_t to)
{
	char line[64], buffer[65536];
	off_t first = from / UNIT, count = (to + UNIT - 1) / UNIT - first;
	put(sparse, line, (size_t)snprintf(line, sizeof(line), "%lld %lld\n", (long long)first, (long long)count));
	for (off_t at = first * UNIT, end = (first + count) * UNIT; at < end && !sparse->broken;) {
		size_t wanted = end - at < (off_t)sizeof(buffer) ? (size_t)(end - at) : sizeof(buffer);
		ssize_t n = pread(fd, buffer, wanted, at);
		if (n < 0)
			return cli_fail("cannot read %s: %s", source, strerror(errno));
		if (n < (ssize_t)wanted)
			memset(buffer + n, 0, wanted - (size_t)n);
		put(sparse, buffer, wanted);
		progress_add(&sparse->copy->progress, wanted);
		at += (off_t)wanted;
	}
	return 0;
}

static int put_pieces(struct sparse *sparse, int fd, const char *source, off_t size)
{
	int code = 0;
	for (off_t from = 0; code == 0 && !sparse->broken;) {
		from = lseek(fd, from, SEEK_DATA);
		off_t to = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
		if (to < 0 && errno != ENXIO)
			return cli_fail("cannot read %s: %s", source, strerror(errno));
		if (to < 0 || from >= size)
			break;
		code = put_piece(sparse, fd, source, from, to < size ? to : size);
		from = to;
	}
	return code;
}

static void check_size(struct copy *copy, int fd, const char *source, off_t size)
{
	struct stat st;
	if (fstat(fd, &st) == 0 && st.st_size != size)
		cp_report_change(copy, source, st.st_size < size ? "shrank" : "grew");
}

int cp_send_sparse(struct copy *copy, const char *source, bool follow, const char *path)
{
	struct sparse sparse = {.copy = copy};
	struct stat st;
	char size[24], mtime[24], mode[8];
	int fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW));
	if (fd < 0 || fstat(fd, &st) < 0) {
		int code = cli_fail("cannot open %s: %s", source, strerror(errno));
		if (fd >= 0)
			close(fd);
		return code;
	}
	snprintf(size, sizeof(size), "%lld", (long long)st.st_size);
	snprintf(mtime, sizeof(mtime), "%lld", (long long)st.st_mtime);
	snprintf(mode, sizeof(mode), "%o", st.st_mode & 07777);
	const char *argv[] = {"sh", "-c", script, "sh", path, size, mtime, mode, NULL};
	int code = CLI_EXIT_FAILED;
	if (guest_start(&sparse.guest, copy, argv, true)) {
		code = put_pieces(&sparse, fd, source, st.st_size);
		if (code == 0 && !sparse.broken)
			check_size(copy, fd, source, st.st_size);
		if (code == 0)
			code = guest_finish(&sparse.guest, path);
		else
			guest_abort(&sparse.guest);
	}
	close(fd);
	return code;
}
