/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories of sandboxes. A sandbox runs as long as its monitor holds a flock on the file `lock` in its
 * directory, and a monitor that died by SIGKILL or with the host leaves a directory whose
 * lock can be taken.
 *
 * A directory is created under a name that no sandbox can have, its lock is taken and its config written, and then it
 * is renamed. So no process ever sees it incomplete, and the rename claims the name. To delete it, its lock is taken,
 * it is renamed back, and then emptied.
 *
 * A directory is a sandbox's only with proof: it belongs to the owner of the state directory, and its config to the
 * user who asks, or to root; others may not write to either, and the config begins with the line that only wisp writes.
 * Anything else in the state directory is left alone. If root uses the state directory of another user, as whom its
 * monitors run, a config of that user proves nothing: a monitor that a guest has taken over cannot forge what root
 * reads.
 */
#ifndef WISP_LIB_STATE_H
#define WISP_LIB_STATE_H

#include "vmm/lib/config.h"
#include "vmm/shared/sandbox_files.h"

/*
 * Opens the state root; with `create`, first creates it if it is missing, and checks it. Stores its absolute path in
 * *path, which the caller frees. -ENOENT, without an error's text, if it is missing and not to be created.
 */
int state_open_root(const char *root, bool create, int *fd, char **path, struct wisp_error *error);

/*
 * root gives what the monitor has to use to the owner of the state directory, as whom the monitor runs: an entry of the
 * sandbox's directory, or that itself ("."). Nothing happens for other users. 0 or -errno.
 */
int state_give(int root_fd, int dir_fd, const char *name);

/* Claims `name`, or a random name if it is NULL; stores the name, the directory and the held lock. */
int state_claim(int root_fd, const char *name, const struct config *config, char name_out[WISP_NAME_MAX + 1],
        int *dir_fd, int *lock_fd, struct wisp_error *error);

enum state_lock { STATE_FREE, STATE_HELD, STATE_NO_LOCK };
/* HELD also where the host cannot tell: what may run is left alone. */
enum state_lock state_probe(int dir_fd);
/* The pid of the monitor that holds the lock, 0 if none does or it is not in this process's pid namespace. */
int32_t state_pid(int dir_fd);
/* Whether a monitor holds the lock that is not in this process's pid namespace. */
bool state_hides_monitor(int dir_fd);
/* Returns a pidfd of the monitor that holds the lock; -1 if none does, or if this pid namespace does not have it. */
int state_open_monitor(int dir_fd);

/* The contents of the file `state`. The caller frees `text`, which may be NULL. */
struct state {
	enum { STATE_NONE, STATE_READY, STATE_PAUSED, STATE_TEMPLATE, STATE_EXIT } kind;
	enum wisp_end end;
	char *text;
	unsigned jail;           /* enum wisp_jail_layer; of one that lives, as the next */
	enum wisp_engine engine; /* WISP_ENGINE_AUTO: unknown */
};
/* Parses a line of the file or of the status socket. */
void state_parse(const char *line, struct state *state);
/* 0, also if there is no such file; -errno if it cannot be read. */
int state_read(int dir_fd, struct state *state);
/* Whether the file says "ready". A cheap test: false does not say that it says anything else. */
bool state_is_ready(int dir_fd);
/*
 * Reads the file, and says what it and the lock mean together; `alive` if the caller knows that the lock was held just
 * now. The caller frees state->text.
 */
int state_now(int dir_fd, bool alive, struct state *state, enum wisp_sandbox_state *now);

/* 1 with proof that `dir_fd` is a sandbox's directory, 0 without, -errno if the host cannot tell. */
int state_prove(int root_fd, int dir_fd);

/*
 * Deletes the directory if it is a sandbox's and its lock can be taken. 0, or -EBUSY: it runs; -EBADMSG: it is not a
 * sandbox's; another -errno.
 */
int state_remove(int root_fd, const char *name);

/*
 * Deletes a directory of a hidden name whose process was killed while it made or deleted the directory. One that is in
 * use has its lock held, or is made anew by state_claim.
 */
void state_remove_leftover(int root_fd, const char *hidden);

/* Deletes what state_claim claimed, open as `dir_fd`, with its lock held. Closes the lock. */
int state_discard(int root_fd, int dir_fd, const char *name, int lock_fd);

/* Opens the directory of an existing sandbox, with proof that it is one, and its config unless `config_fd` is NULL. */
int state_open(int root_fd, const char *root, const char *name, int *dir_fd, int *config_fd, struct wisp_error *error);
/* What wisp_inspect_sandbox returns. */
int state_inspect(
        int root_fd, const char *root, const char *name, struct wisp_sandbox_info **info, struct wisp_error *error);

#endif
