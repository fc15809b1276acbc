/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the host into the guest: sends an archive to the guest's tar. A file with holes is empty in the archive; its
 * data follows separately (cp_sparse.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/cp.h"
#include "vmm/cli/tar.h"

/* A file with several links: when it is met again, it becomes a hard link in the guest. */
struct seen {
	dev_t dev;
	ino_t ino;
	char *name;
};

struct sparse {
	char *source, *name;
	bool follow; /* the source may be a link */
};

struct closed { /* a directory that its owner may not write into */
	char *name;
	mode_t mode;
};

struct send {
	struct closed *closed;
	size_t closed_count;
	struct copy *copy;
	struct guest guest;
	struct seen *seen;
	size_t seen_count;
	struct sparse *sparse;
	size_t sparse_count;
	bool broken; /* the guest takes no more; guest_finish reports why */
};

static int put(struct send *send, const void *data, size_t length)
{
	if (!send->broken && !guest_write(&send->guest, data, length))
		send->broken = true;
	return 0;
}

static int remember_sparse(struct send *send, const char *source, const char *name, bool follow)
{
	struct sparse *grown = reallocarray(send->sparse, send->sparse_count + 1, sizeof(*grown));
	if (!grown)
		return cli_fail("out of memory");
	send->sparse = grown;
	grown[send->sparse_count] = (struct sparse){strdup(source), strdup(name), follow};
	send->sparse_count++;
	return grown[send->sparse_count - 1].source && grown[send->sparse_count - 1].name ? 0
	                                                                                  : cli_fail("out of memory");
}

static const char *find_seen(const struct send *send, const struct stat *st)
{
	for (size_t i = 0; i < send->seen_count; i++) {
		if (send->seen[i].dev == st->st_dev && send->seen[i].ino == st->st_ino)
			return send->seen[i].name;
	}
	return NULL;
}

static int remember_seen(struct send *send, const struct stat *st, const char *name)
{
	struct seen *grown = reallocarray(send->seen, send->seen_count + 1, sizeof(*grown));
	if (!grown)
		return cli_fail("out of memory");
	send->seen = grown;
	grown[send->seen_count] = (struct seen){st->st_dev, st->st_ino, strdup(name)};
	return grown[send->seen_count++].name ? 0 : cli_fail("out of memory");
}

static int put_header(struct send *send, const struct tar_entry *entry)
{
	size_t length;
	char *header = tar_make_header(entry, &length);
	if (!header)
		return cli_fail("out of memory");
	put(send, header, length);
	free(header);
	return 0;
}

/* Sends exactly as many bytes as the header says: the archive stays whole even if the file changes meanwhile. */
static int put_data(struct send *send, int fd, const char *source, uint64_t size)
{
	char buffer[65536];
	uint64_t left = size;
	bool shrank = false;
	while (left > 0 && !send->broken) {
		size_t wanted = left < sizeof(buffer) ? (size_t)left : sizeof(buffer);
		ssize_t n = shrank ? 0 : read(fd, buffer, wanted);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cli_fail("cannot read %s: %s", source, strerror(errno));
		if (n == 0 && !shrank) {
			cp_report_change(send->copy, source, "shrank");
			shrank = true;
		}
		if (shrank) {
			memset(buffer, 0, wanted);
			n = (ssize_t)wanted;
		}
		put(send, buffer, (size_t)n);
		progress_add(&send->copy->progress, (uint64_t)n);
		left -= (uint64_t)n;
	}
	if (!shrank && !send->broken && read(fd, buffer, 1) == 1)
		cp_report_change(send->copy, source, "grew");
	memset(buffer, 0, TAR_BLOCK);
	return put(send, buffer, (size_t)(-size % TAR_BLOCK));
}

static int put_file(struct send *send, const char *source, const struct stat *st, struct tar_entry *entry, bool follow)
{
	const char *first = st->st_nlink > 1 ? find_seen(send, st) : NULL;
	if (first) {
		entry->type = '1';
		entry->link = strdup(first);
		int code = entry->link ? put_header(send, entry) : cli_fail("out of memory");
		free(entry->link);
		return code;
	}
	int code = st->st_nlink > 1 ? remember_seen(send, st, entry->name) : 0;
	if (code != 0)
		return code;
	if (cp_is_sparse(st)) {
		entry->mode |= 0200; /* cp_send_sparse sets the file's own */
		code = remember_sparse(send, source, entry->name, follow);
		return code ? code : put_header(send, entry);
	}
	uint64_t size;
	int fd = cp_open_source(send->copy, source, follow, &size, &code);
	if (fd < 0)
		return code;
	entry->size = size;
	code = put_header(send, entry);
	if (code == 0)
		code = put_data(send, fd, source, entry->size);
	close(fd);
	return code;
}

static int put_symlink(struct send *send, const char *source, struct tar_entry *entry)
{
	char target[4097];
	ssize_t length = readlink(source, target, sizeof(target) - 1);
	if (length < 0)
		return cli_fail("cannot read the link %s: %s", source, strerror(errno));
	target[length] = '\0';
	entry->type = '2';
	entry->link = target;
	return put_header(send, entry);
}

static int put_tree(struct send *send, const char *source, const char *name, bool follow);

static int put_children(struct send *send, const char *source, const char *name)
{
	DIR *dir = opendir(source);
	struct dirent *child;
	int code = 0;
	if (!dir)
		return cli_fail("cannot open %s: %s", source, strerror(errno));
	while (code == 0 && !send->broken && (child = readdir(dir))) {
		char *from = NULL, *to = NULL;
		if (strcmp(child->d_name, ".") == 0 || strcmp(child->d_name, "..") == 0)
			continue;
		if (asprintf(&from, "%s/%s", source, child->d_name) < 0 ||
		        asprintf(&to, "%s/%s", name, child->d_name) < 0)
			code = cli_fail("out of memory");
		else
			code = put_tree(send, from, to, false);
		free(from);
		free(to);
	}
	closedir(dir);
	return code;
}

/* Twice: its own mode and time follow its contents, or a user could not write into a read-only directory. */
static int put_dir(struct send *send, const char *source, struct tar_entry *entry)
{
	mode_t mode = entry->mode;
	entry->type = '5';
	entry->mode = mode | 0700;
	int code = put_header(send, entry);
	if (code == 0)
		code = put_children(send, source, entry->name);
	entry->mode = mode;
	if (code == 0)
		code = put_header(send, entry);
	if (code != 0 || (mode & 0700) == 0700)
		return code;
	/* BusyBox's tar, when it is not root, leaves the mode of a directory that exists as it is. */
	struct closed *grown = reallocarray(send->closed, send->closed_count + 1, sizeof(*grown));
	if (!grown)
		return cli_fail("out of memory");
	send->closed = grown;
	grown[send->closed_count] = (struct closed){strdup(entry->name), mode};
	return grown[send->closed_count++].name ? 0 : cli_fail("out of memory");
}

/* In the order in which put_dir left them: children first. */
static int close_dirs(struct send *send, const char *dir)
{
	int code = 0;
	for (size_t i = 0; i < send->closed_count && code == 0; i++) {
		struct guest guest;
		char *path, mode[16];
		if (asprintf(&path, "%s/%s", dir, send->closed[i].name) < 0)
			return cli_fail("out of memory");
		snprintf(mode, sizeof(mode), "%o", send->closed[i].mode);
		const char *argv[] = {"chmod", mode, path, NULL};
		code = CLI_EXIT_FAILED;
		if (guest_start(&guest, send->copy, argv, false))
			code = guest_finish(&guest, path);
		free(path);
	}
	return code;
}

static int put_tree(struct send *send, const char *source, const char *name, bool follow)
{
	struct stat st;
	if ((follow ? stat : lstat)(source, &st) < 0)
		return cli_fail("cannot stat %s: %s", source, strerror(errno));
	char *copy = strdup(name);
	if (!copy)
		return cli_fail("out of memory");
	struct tar_entry entry = {.name = copy, .type = '0', .mode = st.st_mode & 07777, .mtime = st.st_mtime};
	int code = 0;
	if (S_ISREG(st.st_mode)) {
		code = put_file(send, source, &st, &entry, follow);
	} else if (S_ISLNK(st.st_mode)) {
		code = put_symlink(send, source, &entry);
	} else if (S_ISDIR(st.st_mode)) {
		code = put_dir(send, source, &entry);
	} else if (S_ISFIFO(st.st_mode)) {
		entry.type = '6';
		code = put_header(send, &entry);
	} else {
		cli_fail("%s is a socket or a device; skipped", source);
	}
	free(copy);
	return code;
}

/* ---- The copy ---- */

static uint64_t total_size(const char *path, bool follow)
{
	struct stat st;
	if ((follow ? stat : lstat)(path, &st) < 0)
		return 0;
	if (S_ISREG(st.st_mode))
		return cp_is_sparse(&st) ? (uint64_t)st.st_blocks * 512 : (uint64_t)st.st_size;
	DIR *dir = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
	uint64_t total = 0;
	struct dirent *child;
	while (dir && (child = readdir(dir))) {
		char *name;
		if (strcmp(child->d_name, ".") == 0 || strcmp(child->d_name, "..") == 0)
			continue;
		if (asprintf(&name, "%s/%s", path, child->d_name) >= 0) {
			total += total_size(name, false);
			free(name);
		}
	}
	if (dir)
		closedir(dir);
	return total;
}

static void forget(struct send *send)
{
	for (size_t i = 0; i < send->seen_count; i++)
		free(send->seen[i].name);
	for (size_t i = 0; i < send->sparse_count; i++) {
		free(send->sparse[i].source);
		free(send->sparse[i].name);
	}
	for (size_t i = 0; i < send->closed_count; i++)
		free(send->closed[i].name);
	free(send->closed);
	free(send->seen);
	free(send->sparse);
}

static int send_archive(struct send *send, const char *source, const char *dir, const char *name)
{
	static const char end[2 * TAR_BLOCK];
	const char *argv[] = {"tar", "-xpf", "-", "-C", dir, NULL};
	if (!guest_start(&send->guest, send->copy, argv, true))
		return CLI_EXIT_FAILED;
	int code = put_tree(send, source, name, true);
	if (code != 0) {
		guest_abort(&send->guest);
		return code;
	}
	put(send, end, sizeof(end));
	code = guest_finish(&send->guest, source);
	for (size_t i = 0; i < send->sparse_count && code == 0; i++) {
		char *path;
		if (asprintf(&path, "%s/%s", dir, send->sparse[i].name) < 0)
			return cli_fail("out of memory");
		code = cp_send_sparse(send->copy, send->sparse[i].source, send->sparse[i].follow, path);
		free(path);
	}
	return code ? code : close_dirs(send, dir);
}

/*
 * Whether the target in the guest is not a plain file and so must be written to in place, as on the host. The guest's
 * tar would replace a file by a directory, and an empty directory by a file; cp(1) refuses both.
 */
static int check_target(struct copy *copy, const char *dir, const char *name, bool is_file, bool *through)
{
	char *path;
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return cli_fail("out of memory");
	int kind = guest_kind(copy, path), code = 0;
	*through = kind == 'l' || kind == 'o';
	if (kind < 0)
		code = -kind;
	else if (kind == 'x')
		code = cli_fail("%s is a link that leads nowhere; remove it first", path);
	else if (!is_file && (*through || kind == 'f'))
		code = cli_fail("%s is not a directory in the sandbox; remove it first", path);
	else if (is_file && kind == 'd')
		code = cli_fail("%s is a directory in the sandbox; remove it first", path);
	free(path);
	return code;
}

static int send_through(struct copy *copy, const char *source, const char *guest_path, const char *name, bool into)
{
	char *path;
	int fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return cli_fail("cannot open %s: %s", source, strerror(errno));
	int code = CLI_EXIT_FAILED;
	if (asprintf(&path, "%s%s%s", guest_path, into ? "/" : "", into ? name : "") < 0) {
		cli_fail("out of memory");
	} else {
		code = cp_stream_in(copy, fd, source, path);
		free(path);
	}
	close(fd);
	return code;
}

int cp_send(struct copy *copy, const char *source, const char *guest_path, bool into)
{
	struct send send = {.copy = copy};
	struct stat st;
	if (stat(source, &st) < 0)
		return cli_fail("cannot copy %s: %s", source, strerror(errno));
	char *real = realpath(source, NULL), *dir = NULL;
	if (!real)
		return cli_fail("cannot copy %s: %s", source, strerror(errno));
	const char *name;
	/* A link keeps its own name, "." stands for its contents, ".." and "/" for the names of their directories. */
	if (into) {
		const char *slash = strrchr(source, '/'), *last = slash ? slash + 1 : source;
		name = last[0] && strcmp(last, "..") != 0 ? last : strrchr(real, '/') + 1;
		dir = strdup(guest_path);
	} else {
		dir = cp_split(guest_path, &name);
	}
	int code;
	bool through = false;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		code = cli_fail(
		        "%s is not a file; to copy what it holds, use: wisp cp - NAME:PATH <%s", source, source);
	else if (!dir)
		code = cli_fail("out of memory");
	else
		code = check_target(copy, dir, name, S_ISREG(st.st_mode), &through);
	if (code == 0 && through) {
		code = send_through(copy, source, guest_path, name, into);
	} else if (code == 0) {
		progress_begin(&copy->progress, copy->quiet, total_size(source, true));
		code = send_archive(&send, source, dir, name[0] ? name : ".");
		progress_end(&copy->progress);
	}
	forget(&send);
	free(dir);
	free(real);
	return code;
}
