/* SPDX-License-Identifier: Apache-2.0 */
/* From a member of a structure to the structure itself. Does not compile when `pointer` is not of the member's type. */
#ifndef WISP_CONTAINER_OF_H
#define WISP_CONTAINER_OF_H

#include <stddef.h>

#define container_of(pointer, type, member)                                                                           \
	({                                                                                                            \
		_Static_assert(__builtin_types_compatible_p(__typeof__(*(pointer)), __typeof__(((type *)0)->member)), \
		        "not a pointer to this member");                                                              \
		(type *)(void *)((char *)(pointer)-offsetof(type, member));                                           \
	})

#endif
