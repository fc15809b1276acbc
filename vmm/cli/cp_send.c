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
};

struct send {
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

static int remember_sparse(struct send *send, const char *source, const char *name)
{
	struct sparse *grown = reallocarray(send->sparse, send->sparse_count + 1, sizeof(*grown));
	if (!grown)
		return cli_fail("out of memory");
	send->sparse = grown;
	grown[send->sparse_count] = (struct sparse){strdup(source), strdup(name)};
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

/* Sends exactly as many bytes as the header says, even if the file changes meanwhile. */
static int put_data(struct send *send, int fd, const char *source, uint64_t size)
{
	char buffer[65536] = {0};
	uint64_t left = size;
	while (left > 0 && !send->broken) {
		size_t wanted = left < sizeof(buffer) ? (size_t)left : sizeof(buffer);
		ssize_t n = read(fd, buffer, wanted);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cli_fail("cannot read %s: %s", source, strerror(errno));
		if (n == 0)
			return cli_fail("%s shrank while it was copied; copy it again", source);
		put(send, buffer, (size_t)n);
		progress_add(&send->copy->progress, (uint64_t)n);
		left -= (uint64_t)n;
	}
	memset(buffer, 0, TAR_BLOCK);
	return put(send, buffer, (size_t)(-size % TAR_BLOCK));
}

static int put_file(struct send *send, const char *source, const struct stat *st, struct tar_entry *entry)
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
	entry->size = (uint64_t)st->st_size;
	if (cp_is_sparse(st)) {
		entry->size = 0;
		code = remember_sparse(send, source, entry->name);
		return code ? code : put_header(send, entry);
	}
	int fd = open(source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return cli_fail("cannot open %s: %s", source, strerror(errno));
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
		code = put_file(send, source, &st, &entry);
	} else if (S_ISLNK(st.st_mode)) {
		code = put_symlink(send, source, &entry);
	} else if (S_ISDIR(st.st_mode)) {
		entry.type = '5';
		code = put_header(send, &entry);
		if (code == 0)
			code = put_children(send, source, name);
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
	free(send->seen);
	free(send->sparse);
}

static int send_archive(struct send *send, const char *source, const char *dir, const char *name)
{
	static const char end[2 * TAR_BLOCK];
	const char *argv[] = {"tar", "-xpf", "-", "-C", dir, NULL};
	if (!guest_start(&send->guest, send->copy->sandbox, argv, send->copy->user, true))
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
		code = cp_send_sparse(send->copy, send->sparse[i].source, path);
		free(path);
	}
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
	if (!dir) {
		code = cli_fail("out of memory");
	} else {
		progress_begin(&copy->progress, copy->quiet, total_size(source, true));
		code = send_archive(&send, source, dir, name[0] ? name : ".");
		progress_end(&copy->progress);
	}
	forget(&send);
	free(dir);
	free(real);
	return code;
}
