/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Throttle groups: limits in operations and bytes a second that several nodes share.
 *
 * A group is a user's object (type "throttle-group"): made by object-add, found by its id, alive while
 * the registry or a member holds it.
 */
#ifndef BLOCK_FILTERS_THROTTLE_GROUP_H
#define BLOCK_FILTERS_THROTTLE_GROUP_H

#include "aio/aio.h"
#include "qapi/qapi-types-block-core.h"
#include "util/error.h"

#define TYPE_THROTTLE_GROUP "throttle-group"

typedef struct ThrottleGroup ThrottleGroup;
typedef struct ThrottleGroupMember ThrottleGroupMember;

/*
 * throttle_group_object_add() - object-add of a throttle group: make it and register it as @id
 *
 * @props may be NULL (no limits).  Context: main thread.  Return: 0; -EINVAL or -EEXIST with @errp.
 */
int throttle_group_object_add(const char *id, const ThrottleGroupProperties *props, Error **errp);

/* The group @id, borrowed from the registry; NULL with "Throttle group 'x' does not exist". */
ThrottleGroup *throttle_group_find(const char *id, Error **errp);

/*
 * throttle_group_set_limits() - new limits from now on, also for requests that wait already
 *
 * Members of @limits that are not given are 0 (no limit), lengths 1.  On failure nothing changed.
 */
int throttle_group_set_limits(ThrottleGroup *g, const ThrottleLimits *limits, Error **errp);
/* A copy with every member present; qapi_free_ThrottleLimits() it. */
ThrottleLimits *throttle_group_get_limits(ThrottleGroup *g);

/*
 * Members.  Main thread; @id's group must exist.  The member is a user of the object, so the group
 * cannot be deleted meanwhile.
 */
ThrottleGroupMember *throttle_group_join(const char *id, Error **errp);
/* No request of the member may wait. */
void throttle_group_leave(ThrottleGroupMember *m);
const char *throttle_group_member_id(const ThrottleGroupMember *m);

/*
 * throttle_group_co_limit() - wait until the group's limits let @bytes through, then charge them
 *
 * Context: coroutine; yields.  Members of one group may live in different AioContexts.  Members take
 * turns; a member's own requests go in order.
 * Return: 0, or -ECANCELED by throttle_group_member_cancel(): not charged.
 */
int coroutine_fn throttle_group_co_limit(ThrottleGroupMember *m, int64_t bytes, bool is_write);

/* Between these the member's requests do not wait, those that wait go at once.  Nests.  Any thread. */
void throttle_group_member_release_begin(ThrottleGroupMember *m);
void throttle_group_member_release_end(ThrottleGroupMember *m);
/* The member's requests that wait now end where they are.  Any thread. */
void throttle_group_member_cancel(ThrottleGroupMember *m);
/* Requests waiting, of both kinds; any thread. */
unsigned throttle_group_member_waiting(ThrottleGroupMember *m);

#endif
