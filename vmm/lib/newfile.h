/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that has no name until it is whole: whatever happens to this process, nobody sees a part of it. Only file
 * systems without O_TMPFILE give it a hidden name meanwhile, which a process that is killed leaves behind.
 */
#ifndef WISP_LIB_NEWFILE_H
#define WISP_LIB_NEWFILE_H

#include "vmm/lib/lib.h"
#include "vmm/shared/sandbox_files.h"

struct newfile {
	int fd;     /* open for reading and writing; mode 0600 */
	int dir_fd; /* where it will be */
	char *path;
	const char *base;                       /* the last part of path */
	char hidden[SANDBOX_FILES_HIDDEN_SIZE]; /* its name meanwhile, or "" */
};

/* The same in steps. A file without a name in the directory, for writing and reading; -errno. */
int newfile_open_unnamed(int dir_fd);
/* Gives it its name. 0, -EEXIST or another -errno. */
int newfile_link(int fd, int dir_fd, const char *name);

/* Makes an empty one, which will be `path`. On failure nothing has to be released. */
int newfile_create(const char *path, struct newfile *file, struct wisp_error *error);
/*
 * Writes it to stable storage and gives it its name, in place of an existing file if `replace` is set. -EEXIST without
 * an error's text if there is one and `replace` is not set. Release with newfile_close in any case.
 */
int newfile_publish(struct newfile *file, bool replace, struct wisp_error *error);
/* Takes the name back from a file that was published. */
void newfile_withdraw(struct newfile *file);
/* Without newfile_publish before, nothing of the file is left. */
void newfile_close(struct newfile *file);

#endif
