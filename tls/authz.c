/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * authz.c - lists of names that may come, or may not
 *
 *      rule 0: match ──▶ its policy
 *      rule 1: match ──▶ its policy      the first that matches decides
 *      ...
 *      none    ──────▶ the list's policy: deny, if nothing is said
 */
#include "tls/authz.h"

#include <errno.h>
#include <string.h>

#include "object/object.h"
#include "util/osdep.h"

#define SIMPLE_QOM_TYPE "authz-simple"
#define LIST_QOM_TYPE   "authz-list"

typedef struct Rule {
    char *match; /* exact, or with wildcards when @pattern is there */
    GPatternSpec *pattern;
    bool allow;
} Rule;

typedef struct Authz {
    GArray *rules; /* of Rule */
    bool allow;    /* whom no rule is about */
} Authz;

static void clear_rule(void *value)
{
    Rule *rule = value;

    g_free(rule->match);
    g_clear_pointer(&rule->pattern, g_pattern_spec_free);
}

static Authz *authz_new(void)
{
    Authz *authz = g_new0(Authz, 1);

    authz->rules = g_array_new(FALSE, TRUE, sizeof(Rule));
    g_array_set_clear_func(authz->rules, clear_rule);
    return authz;
}

static void authz_free(Authz *authz)
{
    g_array_unref(authz->rules);
    g_free(authz);
}

static void authz_finalise(UserObject *object)
{
    authz_free(object_instance(object));
}

static const UserObjectOps authz_ops = {.finalise = authz_finalise};

static void add_rule(Authz *authz, const char *match, bool glob, bool allow)
{
    Rule rule = {.match = g_strdup(match), .allow = allow};

    if (glob) {
        rule.pattern = g_pattern_spec_new(match);
    }
    g_array_append_val(authz->rules, rule);
}

/* Takes @authz. */
static int authz_register(const char *id, const char *type, Authz *authz, Error **errp)
{
    if (!object_register_instance(id, type, authz, &authz_ops, errp)) {
        authz_free(authz);
        return -EINVAL;
    }
    return 0;
}

int authz_simple_add(const char *id, const AuthZSimpleProperties *props, Error **errp)
{
    Authz *authz = authz_new();

    add_rule(authz, props->identity, false, true);
    return authz_register(id, SIMPLE_QOM_TYPE, authz, errp);
}

int authz_list_add(const char *id, const AuthZListProperties *props, Error **errp)
{
    Authz *authz = authz_new();

    authz->allow = props->has_policy && props->policy == QAUTHZ_LIST_POLICY_ALLOW;
    for (const QAuthZListRuleList *l = props->rules; l; l = l->next) {
        add_rule(authz, l->value->match,
                 l->value->has_format && l->value->format == QAUTHZ_LIST_FORMAT_GLOB,
                 l->value->policy == QAUTHZ_LIST_POLICY_ALLOW);
    }
    return authz_register(id, LIST_QOM_TYPE, authz, errp);
}

static bool matches(const Rule *rule, const char *identity)
{
    return rule->pattern ? g_pattern_spec_match_string(rule->pattern, identity)
                         : strcmp(rule->match, identity) == 0;
}

bool authz_is_allowed(const char *id, const char *identity, Error **errp)
{
    const Authz *authz = object_find(id, SIMPLE_QOM_TYPE);

    if (!authz) {
        authz = object_find(id, LIST_QOM_TYPE);
    }
    if (!authz) {
        error_setg(errp, "Cannot find QAuthZ object ID %s", id);
        return false;
    }
    for (guint i = 0; i < authz->rules->len; i++) {
        const Rule *rule = &g_array_index(authz->rules, Rule, i);

        if (matches(rule, identity)) {
            return rule->allow;
        }
    }
    return authz->allow;
}
