/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doubly linked lists whose nodes live in what they link, so that linking never allocates and never fails.
 * container_of() leads from a node to the structure that it is part of.
 */
#ifndef WISP_AGENT_LIST_H
#define WISP_AGENT_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/shared/container_of.h"

/* A head, or a node. A node that is in no list has next == NULL (as zeroed memory has). */
struct list {
	struct list *next, *prev;
};

/* The body may remove the current node, and no other. */
#define list_for_each_safe(node, following, head)                                       \
	for (struct list *node = (head)->next, *following = node->next; node != (head); \
	        node = following, following = node->next)

static inline void list_init(struct list *head)
{
	head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline bool list_linked(const struct list *node)
{
	return node->next != NULL;
}

static inline void list_insert_before(struct list *position, struct list *node)
{
	node->prev = position->prev;
	node->next = position;
	position->prev->next = node;
	position->prev = node;
}

static inline void list_append(struct list *head, struct list *node)
{
	list_insert_before(head, node);
}

/* Does nothing to a node that is in no list. */
static inline void list_remove(struct list *node)
{
	if (!node->next)
		return;
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->next = node->prev = NULL;
}

#endif
