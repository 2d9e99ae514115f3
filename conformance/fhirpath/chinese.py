"""The words of FHIRPath's refusals in Chinese: what was expected, what was found, what it is of."""

import re

_WORDS = {
    "a value, a name or a function": "值、名称或函数",
    "an operator or the end": "运算符或结尾",
    "the name of a type": "类型名",
    "a date or time that exists": "真实存在的日期或时间",
    "a FHIRPath token": "FHIRPath 的词",
    "a character that a string may have": "字符串允许的字符",
    "a variable's name": "变量名",
    "that ends the comment": "（结束注释）",
    "four hex digits behind": "四位十六进制数，位于其前的是",
    "an escape of": "下列转义之一：",
    "a closing": "结束符",
    "others": "其他字符",
    "the end": "结尾",
    "a %variable": "%变量",
    "a $variable": "$变量",
    "a `name`": "带引号的名称",
    "a name": "名称",
    "a symbol": "符号",
    "a date or time": "日期或时间",
    "items in one collection": "一个集合的项数",
    "characters in one string": "一个字符串的字符数",
    "characters": "字符数",
    "nesting": "嵌套层数",
    "steps": "步数",
    "element of": "下列类型的元素：",
    "function": "函数",
    "variable": "变量",
    "terminology service": "术语服务",
    "this expression": "此表达式",
    "this rule": "此规则",
    "the criterion of": "条件，属于",
    "an index": "下标",
    "unary": "一元",
    "two values of one type": "两个同类型的值",
    "two strings": "两个字符串",
    "two numbers, strings, dates, times or quantities": "两个数值、字符串、日期、时间或带单位的量",
    "two numbers": "两个数值",
    "operands that fit each other": "相互匹配的操作数",
    "booleans": "布尔值",
    "an integer": "整数",
    "a time-valued quantity": "时间量",
    "a string": "字符串",
    "a string function": "字符串函数",
    "a number, quantity, date or time": "数值、带单位的量、日期或时间",
    "a number or a quantity": "数值或带单位的量",
    "a number": "数值",
    "a boolean": "布尔值",
    "a Coding or CodeableConcept": "Coding 或 CodeableConcept",
    "date or time": "日期或时间",
    "type": "类型",
    "or": "或",
    "on": "作用于",
}
_LONGEST_FIRST = sorted(_WORDS, key=len, reverse=True)
# What stands between backticks is the expression's own text and stays.
_PARTS = re.compile(
    r"(`[^`]*`)|(?<![\w$%])(" + "|".join(map(re.escape, _LONGEST_FIRST)) + r")(?![\w(])"
)


def in_chinese(phrase: str) -> str:
    """Return a phrase of a refusal in Chinese; what stands between backticks is kept."""
    whole = _WORDS.get(phrase)
    return whole or _PARTS.sub(lambda found: found[1] or _WORDS[found[2]], phrase)
