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

/* Whether the first one is the guest's root, which then has no image. */
bool folders_have_root(const struct wisp_create_options *options);

#endif
