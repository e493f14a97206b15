"""The filter of an event subscription: what fields, and which events, a server is asked for. Pure.

A where clause is a tree; on the wire it is a list whose first element is the root, and whose operands point
at later elements (OPC 10000-4 section 7.7). The events by which a server speaks of the subscription itself
are always let through, however little severe they are: without them a lost event would go unsaid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncua import ua

from connectors.opcua.event_fields import BASIC, FIELDS, SYSTEM
from connectors.opcua.nodes import numbered

#: A node of the tree: an operator and its operands, which are trees again or operands of the library.
_Tree = tuple[ua.FilterOperator, list[Any]]

_BASE_EVENT, _ALARM = 2041, 2915
_SEVERITY_LEAST = 1


def event_filter(
    severity_min: int, types: Sequence[ua.NodeId] = (), *, where: bool = True, basic: bool = False
) -> ua.EventFilter:
    """Ask for the fields of `event_fields.FIELDS`, of events of some types (all when none) and severity.

    Without `where` for all events, with `basic` only for the fields every server has: for servers that
    refuse the better.
    """
    made: Any = ua.EventFilter()
    made.SelectClauses = [_operand(type_, path) for _, type_, path in FIELDS[: BASIC if basic else None]]
    if where and (tree := _wanted(severity_min, types)) is not None:
        made.WhereClause.Elements = _flat(tree)
    filter_: ua.EventFilter = made
    return filter_


def _wanted(severity_min: int, types: Sequence[ua.NodeId]) -> _Tree | None:
    system = [_of_type(numbered(int(one[2:]))) for one in sorted(SYSTEM)]
    kind = [_any([_of_type(one) for one in types])] if types else []
    if severity_min > _SEVERITY_LEAST:
        least: Any = ua.LiteralOperand(ua.Variant(severity_min, ua.VariantType.UInt16))
        severe = (ua.FilterOperator.GreaterThanOrEqual, [_operand(_BASE_EVENT, ("Severity",)), least])
        # Servers lower the severity of an alarm when it ends, and its end must not go unsaid. Asked last:
        # there are servers that stop at a field an event does not have.
        no: Any = ua.LiteralOperand(ua.Variant(False, ua.VariantType.Boolean))
        over = (ua.FilterOperator.Equals, [_operand(_ALARM, ("ActiveState", "Id")), no])
        return _any([_all([severe, *kind]), *system, _all([*kind, over])])
    return _any([*kind, *system]) if kind else None


def _of_type(type_: ua.NodeId) -> _Tree:
    return (ua.FilterOperator.OfType, [ua.LiteralOperand(ua.Variant(type_, ua.VariantType.NodeId))])


def _any(trees: Sequence[_Tree]) -> _Tree:
    first, *rest = trees
    return first if not rest else (ua.FilterOperator.Or, [first, _any(rest)])


def _all(trees: Sequence[_Tree]) -> _Tree:
    first, *rest = trees
    return first if not rest else (ua.FilterOperator.And, [first, _all(rest)])


def _operand(type_: int, path: Sequence[str]) -> ua.SimpleAttributeOperand:
    made: Any = ua.SimpleAttributeOperand()
    made.TypeDefinitionId = numbered(type_)
    made.BrowsePath = [ua.QualifiedName(name, 0) for name in path]
    made.AttributeId = ua.AttributeIds.Value if path else ua.AttributeIds.NodeId
    operand: ua.SimpleAttributeOperand = made
    return operand


def _flat(tree: _Tree) -> list[ua.ContentFilterElement]:
    elements: list[ua.ContentFilterElement] = []

    def place(branch: _Tree) -> int:
        element: Any = ua.ContentFilterElement()
        index = len(elements)
        elements.append(element)
        element.FilterOperator = branch[0]
        element.FilterOperands = [
            ua.ElementOperand(place(operand)) if isinstance(operand, tuple) else operand
            for operand in branch[1]
        ]
        return index

    place(tree)
    return elements
