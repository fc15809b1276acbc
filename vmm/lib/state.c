/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/ports.h"
#include "vmm/lib/state.h"
#include "vmm/shared/end.h"

/* A user who may write to the root could replace a sandbox by a socket of their own. */
static int check_root(int fd, const char *root, struct wisp_error *error)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return lib_fail_errno(error, errno, "cannot stat the state directory %s", root);
	if (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0)
		return lib_fail(error, WISP_ERR_INVALID, EPERM,
		        "the state directory %s belongs to user %u: choose one of your own", root, (unsigned)st.st_uid);
	if (st.st_mode & 022)
		return lib_fail(error, WISP_ERR_INVALID, EPERM,
		        "others may write to the state directory %s: chmod go-w it or choose another", root);
	return 0;
}

int state_open_root(const char *root, bool create, int *fd, char **path, struct wisp_error *error)
{
	*path = NULL;
	if (!root || !root[0])
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "state_root is not set: set it to the directory for sandboxes");
	char *absolute = lib_absolute(root);
	if (!absolute)
		return lib_no_memory(error);
	int result = create ? lib_make_dirs(absolute, error) : 0;
	if (result == 0) {
		*fd = open(absolute, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (*fd < 0) {
			int errnum = errno;
			result = lib_fail_errno(error, errnum, "cannot open the state directory %s", absolute);
		} else {
			result = check_root(*fd, absolute, error);
			if (result < 0)
				close(*fd);
		}
	}
	if (result < 0) {
		free(absolute);
		return result;
	}
	*path = absolute;
	return 0;
}

int state_give(int root_fd, int dir_fd, const char *name)
{
	struct stat root;
	if (geteuid() != 0)
		return 0;
	if (fstat(root_fd, &root) < 0)
		return -errno;
	if (root.st_uid == 0)
		return 0;
	return fchownat(dir_fd, name, root.st_uid, root.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int open_lock(int dir_fd)
{
	return openat(dir_fd, SANDBOX_FILES_LOCK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

enum state_lock state_probe(int dir_fd)
{
	int fd = open_lock(dir_fd);
	if (fd < 0)
		return lib_is_shortage(errno) ? STATE_HELD : STATE_NO_LOCK;
	/* Shared: two processes that probe at the same time must not take each other for the monitor. */
	bool free = flock(fd, LOCK_SH | LOCK_NB) == 0;
	close(fd);
	return free ? STATE_FREE : STATE_HELD;
}

/* The pid of the process that holds the record lock; 0 without one, -1 if this pid namespace does not have it. */
static int32_t holder(int lock_fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	bool held = fcntl(lock_fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
	return !held ? 0 : lock.l_pid > 0 ? lock.l_pid : -1;
}

int32_t state_pid(int dir_fd)
{
	int fd = open_lock(dir_fd);
	if (fd < 0)
		return 0;
	int32_t pid = holder(fd);
	close(fd);
	return pid > 0 ? pid : 0;
}

bool state_hides_monitor(int dir_fd)
{
	int fd = open_lock(dir_fd);
	bool hidden = fd >= 0 && holder(fd) < 0;
	if (fd >= 0)
		close(fd);
	return hidden;
}

int state_open_monitor(int dir_fd)
{
	int pidfd = -1, fd = open_lock(dir_fd);
	for (int tries = 0; fd >= 0 && pidfd < 0 && tries < 3; tries++) {
		int32_t pid = holder(fd);
		pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
		/* The monitor lives while it holds the lock, so the descriptor is not another process's. */
		if (pidfd >= 0 && holder(fd) != pid) {
			close(pidfd);
			pidfd = -1;
		}
	}
	if (fd >= 0)
		close(fd);
	return pidfd;
}

void state_parse(const char *line, struct state *state)
{
	*state = (struct state){.kind = STATE_NONE};
	if (strncmp(line, "ready", 5) == 0) {
		state->kind = STATE_READY;
	} else if (strncmp(line, "paused", 6) == 0) {
		state->kind = STATE_PAUSED;
	} else if (strncmp(line, "template", 8) == 0) {
		state->kind = STATE_TEMPLATE;
	} else if (strncmp(line, "exit ", 5) == 0) {
		state->kind = STATE_EXIT;
		const char *reason = line + 5;
		size_t length = strcspn(reason, " \n");
		state->end = end_parse(reason, length);
		const char *text = reason + length;
		while (*text == ' ')
			text++;
		/* It may quote the guest. A '?' has no more bytes than what it stands for. */
		size_t size = strcspn(text, "\n") + 1;
		state->text = malloc(size);
		if (state->text)
			lib_printable(state->text, size, text, size - 1);
	}
	bool lives = state->kind != STATE_NONE && state->kind != STATE_EXIT;
	const char *jail = lives ? strstr(line, " jail=") : NULL, *engine = lives ? strstr(line, " engine=") : NULL;
	state->jail = jail ? (unsigned)strtoul(jail + strlen(" jail="), NULL, 16) & WISP_LAYER_ALL : 0;
	unsigned long number = engine ? strtoul(engine + strlen(" engine="), NULL, 10) : 0;
	state->engine = number <= WISP_ENGINE_EPOLL ? (enum wisp_engine)number : WISP_ENGINE_AUTO;
}

int state_read(int dir_fd, struct state *state)
{
	char *line = lib_read_file(dir_fd, SANDBOX_FILES_STATE, 65536, NULL);
	int r = !line && lib_is_shortage(errno) ? -errno : 0;
	state_parse(line ? line : "", state);
	free(line);
	return r;
}

bool state_is_ready(int dir_fd)
{
	struct stat st;
	/* No other state of a sandbox that lives has a line of this length. */
	return fstatat(dir_fd, SANDBOX_FILES_STATE, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_size == strlen("ready jail=0x00 engine=0\n");
}

int state_now(int dir_fd, bool alive, struct state *state, enum wisp_sandbox_state *now)
{
	static const enum wisp_sandbox_state states[] = {[STATE_NONE] = WISP_SANDBOX_BOOTING,
	        [STATE_READY] = WISP_SANDBOX_RUNNING,
	        [STATE_PAUSED] = WISP_SANDBOX_PAUSED,
	        [STATE_TEMPLATE] = WISP_SANDBOX_TEMPLATE};
	/* The lock before the state: a sandbox that ends in between has written its state. */
	bool held = alive || state_probe(dir_fd) == STATE_HELD;
	int r = state_read(dir_fd, state);
	if (state->kind == STATE_EXIT)
		*now = WISP_SANDBOX_STOPPED;
	else if (!held)
		*now = WISP_SANDBOX_STALE;
	else
		*now = states[state->kind];
	return r;
}

/* Takes the lock, or returns -EBUSY. A process that probes holds its shared lock for a moment only. */
static int take_lock(int dir_fd)
{
	int fd = openat(dir_fd, SANDBOX_FILES_LOCK, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	for (int tries = 0; tries < 20; tries++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		struct timespec pause = {.tv_nsec = NS_PER_MS};
		nanosleep(&pause, NULL);
	}
	close(fd);
	return -EBUSY;
}

/* 1, 0, or -errno. */
static int is_private(int fd, uid_t owner, mode_t type)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	return (st.st_mode & S_IFMT) == type && st.st_uid == owner && (st.st_mode & 077) == 0;
}

/* As state_prove. With proof, *config_fd is the config, open. */
static int prove(int root_fd, int dir_fd, int *config_fd)
{
	char line[sizeof(SANDBOX_FILES_MAGIC) - 1];
	struct stat root;
	if (fstat(root_fd, &root) < 0)
		return -errno;
	int proven = is_private(dir_fd, root.st_uid, S_IFDIR);
	if (proven <= 0)
		return proven;
	int fd = openat(dir_fd, SANDBOX_FILES_CONFIG, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) /* root's, in the directory of this user: it may well be a sandbox */
		return lib_is_shortage(errno) || errno == EACCES ? -errno : 0;
	proven = is_private(fd, geteuid() == 0 ? 0 : root.st_uid, S_IFREG);
	if (proven > 0) {
		ssize_t n = lib_pread(fd, line, sizeof(line), 0);
		proven = n < 0 ? (int)n : n == sizeof(line) && memcmp(line, SANDBOX_FILES_MAGIC, sizeof(line)) == 0;
	}
	if (proven > 0)
		*config_fd = fd;
	else
		close(fd);
	return proven;
}

int state_prove(int root_fd, int dir_fd)
{
	int config_fd;
	int proven = prove(root_fd, dir_fd, &config_fd);
	if (proven > 0)
		close(config_fd);
	return proven;
}

int state_remove(int root_fd, const char *name)
{
	int dir_fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	int result = state_prove(root_fd, dir_fd);
	if (result == 0) {
		result = -EBADMSG;
	} else if (result > 0) {
		int lock_fd = take_lock(dir_fd);
		if (lock_fd >= 0)
			ports_forget(dir_fd);
		struct config config = {0};
		if (config_read(dir_fd, &config) < 0)
			config = (struct config){0};
		/* A directory without a lock file was not removed completely. */
		result = lock_fd >= 0 || lock_fd == -ENOENT ? sandbox_files_remove(root_fd, dir_fd, name) : lock_fd;
		if (lock_fd >= 0)
			close(lock_fd);
		if (result == 0)
			cgroup_remove(config.cgroup);
		config_free(&config);
	}
	close(dir_fd);
	return result;
}

/* Of the directory: no file but an empty lock. */
static bool has_nothing(int dir_fd, int lock_fd)
{
	struct stat lock;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	bool nothing = list && fstat(lock_fd, &lock) == 0 && S_ISREG(lock.st_mode) && lock.st_size == 0;
	if (!list && fd >= 0)
		close(fd);
	for (const struct dirent *entry; nothing && (entry = readdir(list));)
		nothing = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		          strcmp(entry->d_name, SANDBOX_FILES_LOCK) == 0;
	if (list)
		closedir(list);
	return nothing;
}

/*
 * A directory without a config has nothing to prove whose it is, and nothing to lose: it is empty, or has an empty lock
 * that nobody holds.
 */
static void remove_unfinished(int root_fd, int dir_fd, const char *hidden)
{
	if (unlinkat(root_fd, hidden, AT_REMOVEDIR) == 0 || errno != ENOTEMPTY)
		return;
	int lock_fd = take_lock(dir_fd);
	if (lock_fd < 0)
		return;
	if (has_nothing(dir_fd, lock_fd) && unlinkat(dir_fd, SANDBOX_FILES_LOCK, 0) == 0)
		unlinkat(root_fd, hidden, AT_REMOVEDIR);
	close(lock_fd);
}

void state_remove_leftover(int root_fd, const char *hidden)
{
	if (state_remove(root_fd, hidden) != -EBADMSG)
		return;
	int dir_fd = openat(root_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0)
		return;
	remove_unfinished(root_fd, dir_fd, hidden);
	close(dir_fd);
}

int state_discard(int root_fd, int dir_fd, const char *name, int lock_fd)
{
	/* First: where descriptors are exhausted, removal needs this one. Whoever takes the lock now removes it, too.
	 */
	close(lock_fd);
	return sandbox_files_remove(root_fd, dir_fd, name);
}

/*
 * Creates the hidden directory with its config, and holds its lock. -ENOENT: without config and lock it looked like a
 * leftover, and another process removed it.
 */
static int prepare(int root_fd, const char *hidden, const struct config *config, int *dir_fd, int *lock_fd)
{
	struct stat lock;
	if (mkdirat(root_fd, hidden, 0700) < 0)
		return -errno;
	*dir_fd = openat(root_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*dir_fd < 0)
		return -errno;
	int r = state_give(root_fd, *dir_fd, ".");
	if (r < 0)
		return r;
	*lock_fd = openat(*dir_fd, SANDBOX_FILES_LOCK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*lock_fd < 0)
		return -errno;
	if (flock(*lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -ENOENT : -errno;
	if (fstat(*lock_fd, &lock) < 0)
		return -errno;
	return lock.st_nlink > 0 ? config_write(*dir_fd, config) : -ENOENT;
}

/* Undoes prepare(), which may have failed at any step. */
static void undo(int root_fd, const char *hidden, int *dir_fd, int *lock_fd)
{
	if (*lock_fd >= 0)
		state_discard(root_fd, *dir_fd, hidden, *lock_fd);
	else
		unlinkat(root_fd, hidden, AT_REMOVEDIR);
	if (*dir_fd >= 0)
		close(*dir_fd);
	*dir_fd = *lock_fd = -1;
}

static int make_hidden(
        int root_fd, char hidden[SANDBOX_FILES_HIDDEN_SIZE], const struct config *config, int *dir_fd, int *lock_fd)
{
	int r = -ENOENT;
	for (int tries = 0; tries < 16 && r == -ENOENT; tries++) {
		sandbox_files_hide(hidden);
		*dir_fd = *lock_fd = -1;
		r = prepare(root_fd, hidden, config, dir_fd, lock_fd);
		if (r < 0)
			undo(root_fd, hidden, dir_fd, lock_fd);
	}
	return r;
}

/* Frees a name whose sandbox is stale: its monitor died without a record. */
static int free_stale(int root_fd, const char *name)
{
	int dir_fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0)
		return errno == ENOENT ? 0 : -errno;
	struct state state;
	int r = state_read(dir_fd, &state);
	bool stale = r == 0 && state.kind != STATE_EXIT && state_probe(dir_fd) != STATE_HELD;
	free(state.text);
	close(dir_fd);
	return stale ? state_remove(root_fd, name) : -EBUSY;
}

static int fail_taken(int root_fd, const char *name, struct wisp_error *error)
{
	int dir_fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = dir_fd >= 0 ? state_prove(root_fd, dir_fd) : 0;
	bool proven = r > 0 || r == -EACCES;
	bool running = proven && state_probe(dir_fd) == STATE_HELD;
	if (dir_fd >= 0)
		close(dir_fd);
	if (!proven)
		return lib_fail(error, WISP_ERR_NAME_TAKEN, EEXIST,
		        "the state directory has a '%s' that is not a sandbox: choose another name or another state "
		        "directory",
		        name);
	return lib_fail(error, WISP_ERR_NAME_TAKEN, EEXIST, "a sandbox '%s' %s: choose another name, or %s", name,
	        running ? "is running" : "exists but is stopped", running ? "stop it first" : "remove it first");
}

int state_claim(int root_fd, const char *name, const struct config *config, char name_out[WISP_NAME_MAX + 1],
        int *dir_fd, int *lock_fd, struct wisp_error *error)
{
	char hidden[SANDBOX_FILES_HIDDEN_SIZE];
	int r = make_hidden(root_fd, hidden, config, dir_fd, lock_fd);
	if (r < 0)
		return lib_fail_errno(error, -r, "cannot create a directory for the sandbox");
	for (int tries = 0; r == 0; tries++) {
		if (name) {
			snprintf(name_out, WISP_NAME_MAX + 1, "%s", name);
		} else {
			uint32_t number;
			lib_random(&number, sizeof(number));
			snprintf(name_out, WISP_NAME_MAX + 1, "wisp-%08x", number);
		}
		r = lib_rename_new(root_fd, hidden, name_out);
		if (r == 0)
			return 0;
		if (r == -EEXIST && tries < 8 && (!name || free_stale(root_fd, name) == 0))
			r = 0;
		else if (r == -EEXIST)
			r = fail_taken(root_fd, name_out, error);
		else
			lib_fail_errno(error, -r, "cannot create the sandbox's directory %s", name_out);
	}
	undo(root_fd, hidden, dir_fd, lock_fd);
	return r;
}

/* Owns the strings of a wisp_sandbox_info. */
struct state_info {
	struct wisp_sandbox_info info;
	struct config config;
	char *name;
	char *dir;
	char *end_text;
};

void wisp_free_sandbox_info(struct wisp_sandbox_info *info)
{
	if (!info)
		return;
	struct state_info *owner = (struct state_info *)info;
	config_free(&owner->config);
	free(owner->name);
	free(owner->dir);
	free(owner->end_text);
	free(owner);
}

static int fill_info(struct state_info *owner, int dir_fd)
{
	struct wisp_sandbox_info *info = &owner->info;
	const struct config *config = &owner->config;
	static const char *const no_env[] = {NULL};
	static const struct wisp_folder *const no_folders[] = {NULL};
	struct state state;
	info->pid = state_pid(dir_fd);
	int r = state_now(dir_fd, info->pid > 0, &state, &info->state);
	owner->end_text = state.text;
	const char *why = info->state == WISP_SANDBOX_STALE ? cgroup_explain_death(config->cgroup) : NULL;
	if (why && !owner->end_text)
		owner->end_text = strdup(why);
	info->end = state.end;
	info->end_text = owner->end_text ? owner->end_text : "";
	info->name = owner->name;
	info->dir = owner->dir;
	info->cpus = config->cpus;
	info->memory_mib = config->memory_mib;
	info->image = config->image ? config->image : "";
	info->writable = config->writable;
	info->detach = config->detach;
	info->keep = config->keep;
	info->created_ns = config->created_ns;
	info->workdir = config->workdir ? config->workdir : "/";
	info->user = config->user ? config->user : "";
	info->shell = config->shell ? config->shell : "/bin/sh";
	info->hostname = config->hostname ? config->hostname : owner->name;
	info->env = config->env ? config->env : no_env;
	info->jail_layers = info->pid > 0 ? state.jail : 0;
	info->engine = info->pid > 0 ? state.engine : WISP_ENGINE_AUTO;
	info->max_duration_ms = config->max_duration_ms;
	info->idle_timeout_ms = config->idle_timeout_ms;
	info->allow = config->allow ? config->allow : no_env;
	info->secrets = config->secrets ? config->secrets : no_env;
	info->net = config->net ? config->net : "";
	info->folders = config->folders ? config->folders : no_folders;
	return r;
}

/* 1, 0, or -errno if the host cannot tell. */
static int has_name(int root_fd, const char *name, int dir_fd)
{
	struct stat named, own;
	if (fstatat(root_fd, name, &named, AT_SYMLINK_NOFOLLOW) < 0 || fstat(dir_fd, &own) < 0)
		return lib_is_shortage(errno) ? -errno : 0;
	return named.st_dev == own.st_dev && named.st_ino == own.st_ino;
}

int state_open(int root_fd, const char *root, const char *name, int *out, int *config_fd, struct wisp_error *error)
{
	int dir_fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return lib_fail(error, WISP_ERR_NO_SANDBOX, ENOENT, "there is no sandbox '%s' in %s", name, root);
	if (dir_fd < 0)
		return lib_fail_errno(error, errno, "cannot open the sandbox's directory %s/%s", root, name);
	int fd = -1;
	int r = prove(root_fd, dir_fd, &fd);
	if (r == -EACCES)
		lib_fail(error, WISP_ERR_SYSTEM, EACCES, "%s/%s belongs to root: use it as root", root, name);
	else if (r < 0)
		lib_fail_errno(error, -r, "cannot examine the sandbox's directory %s/%s", root, name);
	if (r <= 0)
		close(dir_fd);
	if (r < 0)
		return r;
	if (r == 0)
		return lib_fail(error, WISP_ERR_NO_SANDBOX, EBADMSG, "%s/%s is not a sandbox", root, name);
	if (config_fd)
		*config_fd = fd;
	else
		close(fd);
	*out = dir_fd;
	return 0;
}

/* Closes config_fd. */
static int describe(int dir_fd, int config_fd, const char *root, const char *name, struct wisp_sandbox_info **info,
        struct wisp_error *error)
{
	struct state_info *owner = calloc(1, sizeof(*owner));
	int r = owner ? config_read_open(config_fd, &owner->config) : -ENOMEM;
	close(config_fd);
	if (r == 0) {
		owner->name = strdup(name);
		if (asprintf(&owner->dir, "%s/%s", root, name) < 0)
			owner->dir = NULL;
		if (!owner->name || !owner->dir)
			r = -ENOMEM;
	}
	if (r == 0)
		r = fill_info(owner, dir_fd);
	if (r == 0) {
		*info = &owner->info;
	} else {
		if (owner)
			wisp_free_sandbox_info(&owner->info);
		lib_fail_errno(error, -r, "cannot read the configuration of the sandbox '%s'", name);
	}
	return r;
}

int state_inspect(
        int root_fd, const char *root, const char *name, struct wisp_sandbox_info **info, struct wisp_error *error)
{
	int dir_fd, config_fd;
	int r = state_open(root_fd, root, name, &dir_fd, &config_fd, error);
	if (r < 0)
		return r;
	r = describe(dir_fd, config_fd, root, name, info, error);
	/* What is being removed loses its name first: what was read of it since means nothing. */
	int named = r == 0 ? has_name(root_fd, name, dir_fd) : 1;
	if (named <= 0) {
		wisp_free_sandbox_info(*info);
		*info = NULL;
		r = named < 0
		            ? lib_fail_errno(error, -named, "cannot examine the sandbox's directory %s/%s", root, name)
		            : lib_fail(
		                      error, WISP_ERR_NO_SANDBOX, ENOENT, "there is no sandbox '%s' in %s", name, root);
	}
	close(dir_fd);
	return r;
}
