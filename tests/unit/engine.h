/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what uses the event loop run once with each engine: tests/run sets WISP_TEST_ENGINE=epoll. */
#ifndef WISP_TEST_ENGINE_H
#define WISP_TEST_ENGINE_H

#include <stdlib.h>
#include <string.h>

#include "wisp.h"

static inline enum wisp_engine test_engine(void)
{
	const char *engine = getenv("WISP_TEST_ENGINE");
	if (!engine || strcmp(engine, "io_uring") == 0)
		return WISP_ENGINE_IO_URING;
	return strcmp(engine, "epoll") == 0 ? WISP_ENGINE_EPOLL : WISP_ENGINE_AUTO;
}

#endif
