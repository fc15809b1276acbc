/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the guest to the host. The guest, and so the archive, may be hostile: no entry may escape the destination by
 * "..", an absolute name, or a link that another entry created; there are no device nodes and no set-user-ID files. The
 * kernel resolves every directory beneath the destination and follows no links (openat2).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/cli/cp.h"
#include "vmm/cli/tar.h"

#define DEPTH_MAX 512

struct late { /* a directory, whose mode and time are set when nothing more is written into it */
	char *name;
	mode_t mode;
	int64_t mtime;
};

struct receive {
	struct copy *copy;
	struct guest guest;
	struct tar_reader reader;
	int root_fd;      /* the directory that everything goes into */
	const char *from; /* the archive's first component, which becomes ... */
	const char *to;   /* ... this name */
	struct late *late;
	size_t late_count;
};

static size_t read_guest(void *context, void *data, size_t length)
{
	return guest_read(context, data, length);
}

static int open_beneath(int root_fd, const char *path, int flags)
{
	struct open_how how = {
	        .flags = (uint64_t)(flags | O_CLOEXEC),
	        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

/* An entry's name with its first component replaced; NULL if the name is refused. */
static char *local_name(const struct receive *receive, const char *name)
{
	while (strncmp(name, "./", 2) == 0 && strcmp(receive->from, ".") != 0)
		name += 2;
	size_t length = strlen(receive->from);
	if (strncmp(name, receive->from, length) != 0 || (name[length] != '/' && name[length] != '\0'))
		return NULL;
	const char *rest = name + length;
	unsigned depth = 0;
	for (const char *at = rest; *at; at += strcspn(at, "/")) {
		at += strspn(at, "/");
		size_t part = strcspn(at, "/");
		if ((part == 2 && memcmp(at, "..", 2) == 0) || ++depth > DEPTH_MAX)
			return NULL;
	}
	char *local;
	if (asprintf(&local, "%s%s", receive->to, rest) < 0)
		return NULL;
	size_t end = strlen(local);
	while (end > 1 && local[end - 1] == '/')
		local[--end] = '\0';
	return local;
}

/* The directory of `local`, opened, and its last component. */
static int open_parent(const struct receive *receive, const char *local, const char **last)
{
	char *dir = cp_split(local, last);
	if (!dir)
		return -1;
	int fd = open_beneath(receive->root_fd, dir, O_RDONLY | O_DIRECTORY);
	free(dir);
	return fd;
}

static bool is_zero(const char *data, size_t length)
{
	return length > 0 && data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* Pages of zeroes become holes. */
static int write_data(struct receive *receive, int fd, const char *local)
{
	char buffer[65536];
	off_t at = 0;
	ptrdiff_t n;
	while ((n = tar_read(&receive->reader, buffer, sizeof(buffer))) > 0) {
		for (ptrdiff_t from = 0; from < n;) {
			size_t piece = (size_t)(4096 - (at + from) % 4096);
			if (piece > (size_t)(n - from))
				piece = (size_t)(n - from);
			if (!is_zero(buffer + from, piece) &&
			        pwrite(fd, buffer + from, piece, at + from) != (ssize_t)piece)
				return cli_fail("cannot write %s: %s", local, strerror(errno));
			from += (ptrdiff_t)piece;
		}
		at += n;
		progress_add(&receive->copy->progress, (uint64_t)n);
	}
	if (n < 0)
		return -1;
	return ftruncate(fd, at) < 0 ? cli_fail("cannot write %s: %s", local, strerror(errno)) : 0;
}

static mode_t safe_mode(const struct tar_entry *entry)
{
	return entry->mode & 01777;
}

static void set_times(int fd, int64_t mtime)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime}};
	futimens(fd, times);
}

static int make_file(
        struct receive *receive, int parent, const char *last, const char *local, const struct tar_entry *entry)
{
	/* Always a new file: an existing one may be a link, or open elsewhere. */
	if (unlinkat(parent, last, 0) < 0 && errno != ENOENT)
		return cli_fail("cannot replace %s: %s", local, strerror(errno));
	int fd = openat(parent, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return cli_fail("cannot create %s: %s", local, strerror(errno));
	int code = write_data(receive, fd, local);
	fchmod(fd, safe_mode(entry));
	set_times(fd, entry->mtime);
	close(fd);
	return code;
}

static int make_dir(
        struct receive *receive, int parent, const char *last, const char *local, const struct tar_entry *entry)
{
	struct stat st;
	if (strcmp(local, ".") == 0)
		return 0;
	if (mkdirat(parent, last, 0700) < 0) {
		if (errno != EEXIST || fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			return cli_fail("cannot create the directory %s: %s", local, strerror(errno));
	}
	struct late *grown = reallocarray(receive->late, receive->late_count + 1, sizeof(*grown));
	if (!grown)
		return cli_fail("out of memory");
	receive->late = grown;
	grown[receive->late_count] = (struct late){strdup(local), safe_mode(entry), entry->mtime};
	return grown[receive->late_count++].name ? 0 : cli_fail("out of memory");
}

static int make_link(
        struct receive *receive, int parent, const char *last, const char *local, const struct tar_entry *entry)
{
	if (unlinkat(parent, last, 0) < 0 && errno != ENOENT)
		return cli_fail("cannot replace %s: %s", local, strerror(errno));
	if (entry->type == '2') {
		if (symlinkat(entry->link, parent, last) == 0)
			return 0;
		return cli_fail("cannot create the link %s: %s", local, strerror(errno));
	}
	/* A hard link may lead only to another entry of the archive. */
	const char *target_last;
	char *target = local_name(receive, entry->link);
	int target_parent = target ? open_parent(receive, target, &target_last) : -1;
	int code = 0;
	if (target_parent < 0 || linkat(target_parent, target_last, parent, last, 0) < 0)
		code = cli_fail("cannot create the hard link %s", local);
	if (target_parent >= 0)
		close(target_parent);
	free(target);
	return code;
}

static int take_entry(struct receive *receive, const struct tar_entry *entry)
{
	char *local = local_name(receive, entry->name);
	const char *last = "";
	if (!local)
		return cli_fail("the guest's archive is refused: it names a file outside of the requested path");
	int parent = open_parent(receive, local, &last), code = 0;
	if (parent < 0)
		code = cli_fail(
		        "the guest's archive is refused: it has no directory for %s, or a link in its place", local);
	else if (entry->type == '0')
		code = make_file(receive, parent, last, local, entry);
	else if (entry->type == '5')
		code = make_dir(receive, parent, last, local, entry);
	else if (entry->type == '1' || entry->type == '2')
		code = make_link(receive, parent, last, local, entry);
	else
		cli_fail("%s is a device, a FIFO or of an unknown type; skipped", local);
	if (parent >= 0)
		close(parent);
	free(local);
	return code;
}

/* In reverse order: a directory may become unsearchable only after what it contains. */
static void finish_dirs(struct receive *receive)
{
	while (receive->late_count > 0) {
		struct late *late = &receive->late[--receive->late_count];
		int fd = late->name ? open_beneath(receive->root_fd, late->name, O_RDONLY | O_DIRECTORY) : -1;
		if (fd >= 0) {
			fchmod(fd, late->mode);
			set_times(fd, late->mtime);
			close(fd);
		}
		free(late->name);
	}
	free(receive->late);
}

static int take_archive(struct receive *receive, const char *guest_path)
{
	struct tar_entry entry;
	int r, code = 0;
	bool any = false;
	while (code == 0 && (r = tar_next(&receive->reader, &entry)) > 0) {
		any = true;
		code = take_entry(receive, &entry);
	}
	finish_dirs(receive);
	tar_end(&receive->reader);
	if (code == 0 && r == 0)
		return guest_finish(&receive->guest, guest_path);
	if (code > 0) {
		guest_abort(&receive->guest);
		return code;
	}
	/* The archive is cut short. The guest's own message says more, if there is one. */
	const char *what = receive->reader.what;
	code = guest_finish(&receive->guest, guest_path);
	return code ? code : cli_fail("%s: %s%s", guest_path, what, any ? "" : " and holds nothing");
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
	struct receive receive = {.copy = copy, .from = from, .to = to};
	receive.root_fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	receive.reader = (struct tar_reader){.read = read_guest, .context = &receive.guest};
	const char *argv[] = {"tar", "-cf", "-", "-C", guest_dir, "--", from, NULL};
	int code = CLI_EXIT_FAILED;
	if (receive.root_fd < 0) {
		cli_fail("cannot open the directory %s: %s", dir ? dir : destination, strerror(errno));
	} else if (guest_start(&receive.guest, copy->sandbox, argv, copy->user, false)) {
		progress_begin(&copy->progress, copy->quiet, 0);
		code = take_archive(&receive, guest_path);
		progress_end(&copy->progress);
	}
	if (receive.root_fd >= 0)
		close(receive.root_fd);
	free(guest_dir);
	free(dir);
	return code;
}
