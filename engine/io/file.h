/* SPDX-License-Identifier: MIT */
/* What all back ends share: the head of a file, and lists of requests. */
#ifndef SOSIE_IO_FILE_H
#define SOSIE_IO_FILE_H

#include "sosie/io.h"

/* First member of every back end's file, so that the checked wrappers can name it. */
struct sosie_file {
	char *path; /* as opened; owned by the file */
};

/* Requests in the order of their arrival, chained by sosie_req.next. */
struct req_list {
	struct sosie_req *head, *tail;
};

static inline void req_list_push(struct req_list *list, struct sosie_req *req)
{
	req->next = NULL;
	if (list->tail)
		list->tail->next = req;
	else
		list->head = req;
	list->tail = req;
}

static inline struct sosie_req *req_list_pop(struct req_list *list)
{
	struct sosie_req *req = list->head;

	if (!req)
		return NULL;
	list->head = req->next;
	if (!list->head)
		list->tail = NULL;
	req->next = NULL;
	return req;
}

#endif
