/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of the host that a sandbox uses: each is opened here, and served by a wisp-fs that is started here. */
#ifndef WISP_LIB_FOLDERS_H
#define WISP_LIB_FOLDERS_H

#include "vmm/lib/describe.h"

/*
 * Adds the folders of the options to the description. The processes end with the descriptors that the description then
 * has, so that a creation which fails leaves none. 0 or -errno with `error`.
 */
int folders_open(struct creation *creation, struct wisp_error *error);

/*
 * The same of a clone of a source that has folders: its source's, which must still be those that its guest knows. The
 * guest of a template is that of a snapshot, and may know others, but for the root. -EINVAL: one that is written to has
 * cache=always.
 */
int folders_inherit(struct creation *creation, const struct config *source, bool is_template, struct wisp_error *error);

/*
 * The same of a sandbox from a snapshot: the folders of the options, one for each that the snapshot's guest has, with
 * the same path in the guest and the same rights. They may be other folders of the host, but for the root.
 */
int folders_restore(struct creation *creation, const struct config *saved, struct wisp_error *error);

/* 0, or -EINVAL with `error`: the machine cannot be saved, because a folder has cache=always. */
int folders_check_saved(const struct config *source, struct wisp_error *error);

/* Whether the first one is the guest's root, which then has no image. */
bool folders_have_root(const struct wisp_create_options *options);

#endif
